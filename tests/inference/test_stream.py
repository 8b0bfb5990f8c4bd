import threading
import time

import numpy as np
import pytest
from inference.graphs import SHAPE, Linear, images_of

from ngvae_tools.datasets import open_dataset
from ngvae_tools.errors import ContractError
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.inference.stream import READ_BYTES, READS_AHEAD, encode_blocks

BLOCK = 64


class Counting:
    """A data set that counts the ranges that were read and not yet used."""

    def __init__(self, dataset, *, fail_at=None, delay=0.0):
        self._dataset, self._fail_at, self._delay = dataset, fail_at, delay
        self._lock = threading.Lock()
        self.started = self.largest = 0

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def __len__(self):
        return len(self._dataset)

    def read(self, start, stop):
        with self._lock:
            self.started += 1
        self.largest = max(self.largest, stop - start)
        time.sleep(self._delay)
        if self._fail_at is not None and start <= self._fail_at < stop:
            raise RuntimeError("the disk is gone")
        return self._dataset.read(start, stop)


@pytest.fixture
def linear():
    return Linear()


@pytest.fixture
def session(tmp_path, linear):
    return EncoderSession(linear.save(tmp_path / "encoder.onnx", nan_where_white=True), threads=1)


def readers():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read")]


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_blocks_come_in_order_and_whole(tmp_path, as_h5, linear, session, batch_size):
    images = images_of(200)
    blocks = list(
        encode_blocks(open_dataset(as_h5(tmp_path / "d.h5", images)), session, block=BLOCK, batch_size=batch_size)
    )
    assert [block.size for block in blocks] == [64, 64, 64, 8]
    np.testing.assert_array_equal(np.concatenate([block.index for block in blocks]), np.arange(200))
    mu, p = linear.heads(images)
    np.testing.assert_array_equal(np.concatenate([block.heads.mu for block in blocks]), mu)
    np.testing.assert_array_equal(np.concatenate([block.heads.second for block in blocks]), p)


def test_images_without_finite_heads_are_rejected_alone(tmp_path, as_h5, linear, session):
    images = images_of(150)
    bad = [0, 63, 64, 100, 149]
    images[bad, -1, -1, -1] = 255
    blocks = list(encode_blocks(open_dataset(as_h5(tmp_path / "d.h5", images)), session, block=BLOCK, batch_size=32))
    assert [r.index for block in blocks for r in block.rejected] == bad
    assert {r.reason for block in blocks for r in block.rejected} == {"the encoder returned values that are not finite"}
    good = np.setdiff1d(np.arange(150), bad)
    np.testing.assert_array_equal(np.concatenate([block.index for block in blocks]), good)
    np.testing.assert_array_equal(np.concatenate([block.heads.mu for block in blocks]), linear.heads(images[good])[0])


def test_rejections_of_data_and_encoder_come_sorted(tmp_path, as_pngs, session):
    images = images_of(20)
    images[[2, 11], -1, -1, -1] = 255
    folder = as_pngs(tmp_path / "d", images)
    for broken in (1, 9, 12):
        (folder / f"{broken:05d}.png").write_bytes(b"broken")
    (block,) = encode_blocks(open_dataset(folder, image_shape=SHAPE), session, block=BLOCK, batch_size=4)
    assert [r.index for r in block.rejected] == [1, 2, 9, 11, 12]
    assert [r.identifier for r in block.rejected] == [f"{k:05d}.png" for k in (1, 2, 9, 11, 12)]


@pytest.mark.parametrize("unit", [-(2.0**-4), 2.0**-4])
def test_p_outside_its_range_is_refused(tmp_path, as_h5, unit):
    linear = Linear()
    linear.second_weight *= unit * 2.0**8
    session = EncoderSession(linear.save(tmp_path / "encoder.onnx"))
    dataset = open_dataset(as_h5(tmp_path / "d.h5", images_of(10)))
    with pytest.raises(ContractError, match="p between 0 and 1"):
        list(encode_blocks(dataset, session, block=BLOCK, batch_size=4))


def test_a_log_variance_whose_exponential_overflows_is_rejected(tmp_path, as_h5):
    linear = Linear(second="logvar")
    linear.second_weight[0, 0] = 4.0
    session = EncoderSession(linear.save(tmp_path / "encoder.onnx"))
    images = images_of(10)
    images[:, 0, 0, 0] = 0
    images[3, 0, 0, 0] = 250
    (block,) = encode_blocks(open_dataset(as_h5(tmp_path / "d.h5", images)), session, block=BLOCK, batch_size=4)
    assert [r.index for r in block.rejected] == [3]


def test_reading_never_runs_further_ahead_than_the_window(tmp_path, as_h5, session):
    dataset = Counting(open_dataset(as_h5(tmp_path / "d.h5", images_of(40 * BLOCK))))
    for done, _ in enumerate(encode_blocks(dataset, session, block=BLOCK, batch_size=32), start=1):
        # Every reader gets the time to run ahead as far as it may.
        time.sleep(0.005)
        assert dataset.started <= done + READS_AHEAD
    assert dataset.started == 40
    assert dataset.largest == BLOCK


def test_the_readers_do_run_ahead(tmp_path, as_h5, session):
    dataset = Counting(open_dataset(as_h5(tmp_path / "d.h5", images_of(10 * BLOCK))))
    blocks = encode_blocks(dataset, session, block=BLOCK, batch_size=32)
    next(blocks)
    time.sleep(0.05)
    assert dataset.started > 1
    blocks.close()


def test_one_read_holds_a_bounded_number_of_bytes(tmp_path, as_h5):
    shape = (128, 128, 3)
    linear = Linear(1, shape, constant=0.25)
    session = EncoderSession(linear.save(tmp_path / "encoder.onnx"))
    images = np.zeros((1100, *shape), np.uint8)
    dataset = Counting(open_dataset(as_h5(tmp_path / "d.h5", images, chunks=(64, *shape), compression="gzip")))
    blocks = list(encode_blocks(dataset, session, block=1024, batch_size=32))
    assert [block.size for block in blocks] == [1024, 76]
    assert dataset.largest * np.prod(shape) <= READ_BYTES
    assert dataset.started > 2


@pytest.mark.parametrize("fail_at", [0, 5 * BLOCK, 10 * BLOCK - 1])
def test_a_reader_that_fails_ends_the_run_without_leaving_threads(tmp_path, as_h5, session, fail_at):
    dataset = Counting(open_dataset(as_h5(tmp_path / "d.h5", images_of(10 * BLOCK))), fail_at=fail_at, delay=0.01)
    seen = []
    blocks = encode_blocks(dataset, session, block=BLOCK, batch_size=32)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        seen.extend(blocks)
    assert len(seen) == fail_at // BLOCK
    assert dataset.started <= len(seen) + 1 + READS_AHEAD
    assert not readers()


def test_a_consumer_that_stops_leaves_no_threads(tmp_path, as_h5, session):
    dataset = Counting(open_dataset(as_h5(tmp_path / "d.h5", images_of(10 * BLOCK))), delay=0.01)
    blocks = encode_blocks(dataset, session, block=BLOCK, batch_size=32)
    next(blocks)
    assert readers()
    blocks.close()
    assert not readers()
