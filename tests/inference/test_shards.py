"""Cutting a data set, running shards in threads, and keeping them in files."""

import itertools
import threading
import time
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.graphs import Linear, images_of

from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.datasets import open_dataset
from ngvae_tools.errors import RecordError
from ngvae_tools.inference.local import run_shards
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.inference.shard_file import read_shard, write_shard
from ngvae_tools.inference.shards import (
    MOST_BLOCKS,
    MOST_TOGETHER,
    PIECE,
    PIECE_BYTES,
    SHARD_BYTES,
    SHARDS,
    ShardPlan,
    ShardSettings,
    run_shard,
)

SETTINGS = ShardSettings(batch_size=32, replicates=20)


@settings(max_examples=200)
@given(st.integers(1, 10**8), st.integers(1, 2**30), st.integers(1, 2**16), st.integers(1, 50), st.integers(1, 10**5))
def test_every_image_lies_in_one_shard_of_one_part(n_images, image_bytes, values, of, rows):
    plan = ShardPlan.of(n_images, image_bytes=image_bytes, values=values, rows=rows)
    assert plan.blocks & (plan.blocks - 1) == 0
    assert 1 <= plan.blocks <= (MOST_BLOCKS if rows <= MOST_BLOCKS * BLOCK else MOST_TOGETHER)
    assert BLOCK % plan.piece == 0
    assert plan.piece == 1 or (plan.piece <= PIECE and plan.piece * image_bytes <= PIECE_BYTES)
    assert plan.blocks == 1 or plan.blocks * BLOCK * values * 4 <= SHARD_BYTES
    assert plan.blocks == 1 or plan.n_shards >= SHARDS or (plan.blocks - 1) * BLOCK < 2 * rows
    assert plan.shard(0).start == 0
    assert plan.shard(plan.n_shards - 1).stop == n_images
    middle = plan.shard(plan.n_shards // 2)
    assert middle.start == plan.n_shards // 2 * plan.blocks * BLOCK
    parts = [plan.part(k + 1, of) for k in range(of)]
    assert parts[0].start == 0
    assert parts[-1].stop == plan.n_shards
    assert all(one.stop == other.start for one, other in itertools.pairwise(parts))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    pieces = plan.pieces(plan.shard(plan.n_shards - 1))
    assert sum(stop - start for start, stop in pieces) == plan.shard(plan.n_shards - 1).stop - pieces[0][0]


@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (1024, 1), (1000, 1), (8192, 8), (5000, 8), (10**6, 64)])
def test_chunks_are_read_by_one_shard_where_that_can_be(rows, blocks):
    assert ShardPlan.of(10**4, image_bytes=100, values=8, rows=rows).blocks == blocks


class Slow:
    """A data set that notes who reads it, and may fail."""

    def __init__(self, dataset, *, fail_at=None, delay=0.0, readers=1):
        self._dataset, self._fail_at, self._delay = dataset, fail_at, delay
        self._all_have_begun = threading.Barrier(readers, timeout=60)
        self.names, self.ranges = set(), []

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def __len__(self):
        return len(self._dataset)

    def read(self, start, stop):
        name = threading.current_thread().name
        if name not in self.names:
            self.names.add(name)
            self._all_have_begun.wait()
        self.ranges.append((start, stop))
        time.sleep(self._delay)
        if self._fail_at is not None and start <= self._fail_at < stop:
            raise RuntimeError("the disk is gone")
        return self._dataset.read(start, stop)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    import h5py

    folder = tmp_path_factory.mktemp("shards")
    images = images_of(3 * BLOCK + 100)
    images[[3, 1500, 1501, 3171], -1, -1, -1] = 255
    images[BLOCK : 2 * BLOCK, -1, -1, -1] = 255
    with h5py.File(folder / "d.h5", "w") as file:
        file.create_dataset("images", data=images, chunks=(64, *images.shape[1:]))
    session = EncoderSession(Linear().save(folder / "encoder.onnx", nan_where_white=True), threads=1)
    dataset = open_dataset(folder / "d.h5")
    plan = ShardPlan.of(len(dataset), image_bytes=90, values=6)
    return dataset, session, plan


def bits(result):
    """Everything in a result, as the bytes of its file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "shard.npz"
        write_shard(path, result)
        return path.read_bytes()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_give_what_one_shard_after_the_other_gives(work, workers):
    dataset, session, plan = work
    watched = Slow(dataset, readers=workers)
    kept, done = {}, []
    run_shards(
        watched,
        session,
        plan,
        range(plan.n_shards),
        SETTINGS,
        workers=workers,
        keep=lambda result: kept.__setitem__(result.shard.number, result),
        on_done=done.append,
    )
    assert len(watched.names) == workers
    assert sum(d.images for d in done) == len(dataset)
    assert sum(len(d.rejected) for d in done) == BLOCK + 2
    for number in range(plan.n_shards):
        assert bits(kept[number]) == bits(run_shard(dataset, session, plan, plan.shard(number), SETTINGS))
    assert kept[1].part.n_images == 0
    assert kept[1].part.sample is None


@pytest.mark.parametrize("fail_at", [0, 2000, 3171])
def test_a_reader_that_fails_ends_the_run_without_leaving_threads(work, fail_at):
    dataset, session, plan = work
    kept = []
    with pytest.raises(RuntimeError, match="the disk is gone"):
        run_shards(
            Slow(dataset, fail_at=fail_at, delay=0.002),
            session,
            plan,
            range(plan.n_shards),
            SETTINGS,
            workers=2,
            keep=kept.append,
            on_done=lambda _: None,
        )
    assert fail_at // BLOCK not in [result.shard.number for result in kept]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]


def test_a_caller_that_stops_leaves_no_threads_and_little_is_read_ahead(work):
    dataset, session, plan = work
    watched = Slow(dataset, delay=0.005)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_shards(
            watched,
            session,
            plan,
            range(plan.n_shards),
            SETTINGS,
            workers=2,
            keep=lambda _: None,
            on_done=stop,
        )
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]
    assert len(watched.ranges) <= 4


class TestFile:
    @pytest.fixture
    def result(self, work):
        dataset, session, plan = work
        return run_shard(dataset, session, plan, plan.shard(0), SETTINGS)

    def test_what_is_written_is_read(self, work, tmp_path):
        dataset, session, plan = work
        for number in range(plan.n_shards):
            result = run_shard(dataset, session, plan, plan.shard(number), SETTINGS)
            write_shard(tmp_path / "a.npz", result)
            found = read_shard(tmp_path / "a.npz")
            assert bits(found) == bits(result)
            assert found.shard == result.shard
            assert found.rejected == result.rejected

    def test_names_are_kept_as_bytes(self, tmp_path, as_pngs):
        folder = as_pngs(tmp_path / "d", images_of(5))
        (folder / "00003.png").rename(folder / "a much longer name.png")
        session = EncoderSession(Linear().save(tmp_path / "encoder.onnx"), threads=1)
        dataset = open_dataset(folder, image_shape=session.metadata.image_shape)
        plan = ShardPlan.of(5, image_bytes=90, values=6)
        write_shard(tmp_path / "a.npz", run_shard(dataset, session, plan, plan.shard(0), SETTINGS))
        found = read_shard(tmp_path / "a.npz").identifiers
        assert found.tolist() == dataset.identifiers(0, 5).tolist()

    def test_a_damaged_file_is_told(self, result, tmp_path):
        path = tmp_path / "a.npz"
        write_shard(path, result)
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        good = bits(result)
        for place in rng.integers(0, len(whole), 60):
            data = bytearray(whole)
            data[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(data)
            try:
                found = read_shard(path)
            except RecordError:
                continue
            # A bit of zip's own tables that nothing depends on.
            assert zlib.crc32(bits(found)) == zlib.crc32(good)
        for length in (0, 10, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(RecordError, match="run the same command again"):
                read_shard(path)
