"""Training images: the split, the scale, what cannot be trained on, and that streaming changes nothing."""

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import open_dataset
from ngvae_tools.errors import DatasetError, DeviceError
from ngvae_tools.training import data
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import load_images
from ngvae_tools.training.devices import training_device, training_devices
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.networks import Decoder, Encoder, scaled


def loaded(path, samples, **options):
    with h5py.File(path, "w") as file:
        file["images"] = samples
    return opened(path, **options)


def opened(path, image_shape=None, resize=None, **options):
    dataset = open_dataset(path, image_shape=image_shape, resize=resize)
    return load_images(dataset, **({"held_out": 0.25, "seed": 0} | options))


def noise(dtype, n=200, seed=0):
    values = np.random.default_rng(seed).normal(3000, 500, (n, 16, 16, 1))
    return values.astype(dtype)


def both(path, window_bytes=2**14, **options):
    """The same data in memory and streamed, in windows so small that there are several."""
    return [opened(path, memory=limit, window_bytes=window_bytes, **options) for limit in (2**40, 0)]


def rows_of(images):
    return images.train_rows, images.held_out_rows


def test_the_split_is_a_partition_that_the_seed_decides(tmp_path, sprites):
    samples = sprites[:101]
    images = loaded(tmp_path / "a.h5", samples)
    assert (images.n_train, images.n_held_out) == (76, 25)
    np.testing.assert_array_equal(np.union1d(*rows_of(images)), np.arange(101))
    again, other = loaded(tmp_path / "a.h5", samples), loaded(tmp_path / "a.h5", samples, seed=1)
    np.testing.assert_array_equal(images.train_rows, again.train_rows)
    assert not np.array_equal(images.train_rows, other.train_rows)


def test_an_epoch_and_the_held_out_share_hold_every_image_once(tmp_path, sprites):
    images = loaded(tmp_path / "a.h5", sprites[:101])
    assert images.image_shape == (32, 32, 3)
    assert not images.streamed
    batches = list(images.epoch(1, 16))
    assert [len(batch) for batch in batches] == [16, 16, 16, 16, 12]
    assert len(batches) == images.steps(16)
    held_out = list(images.held_out(10))
    assert [len(batch) for batch in held_out] == [10, 10, 5]
    np.testing.assert_array_equal(np.concatenate(held_out), sprites[images.held_out_rows])
    once = sorted(image.tobytes() for image in np.concatenate(batches))
    assert once == sorted(image.tobytes() for image in sprites[images.train_rows])


def test_nothing_need_be_held_out(tmp_path, sprites):
    images = loaded(tmp_path / "a.h5", sprites[:5], held_out=0.0)
    assert (images.n_train, images.n_held_out) == (5, 0)
    assert list(images.held_out(8)) == []


def test_bytes_are_scaled_by_255(tmp_path, sprites):
    assert loaded(tmp_path / "a.h5", sprites[:8]).scale == InputScale(0, 255)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_scientific_images_are_scaled_by_percentiles_of_the_training_share(tmp_path, dtype):
    samples = noise(dtype)
    images = loaded(tmp_path / "a.h5", samples)
    low, high = np.percentile(samples[images.train_rows], (0.1, 99.9))
    assert (images.scale.low, images.scale.high) == (pytest.approx(low), pytest.approx(high))
    # What is held out has no say.
    samples[images.held_out_rows] = 60_000
    assert loaded(tmp_path / "a.h5", samples).scale == images.scale


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_constant_images_get_a_scale_that_divides(tmp_path, value):
    scale = loaded(tmp_path / "a.h5", np.full((4, 16, 16, 1), value, np.float32)).scale
    assert scale == InputScale(value, value + 1)


def test_rare_bright_pixels_set_the_scale_where_percentiles_agree(tmp_path):
    samples = np.zeros((8, 16, 16, 1), np.uint16)
    samples[0, 3, 3, 0] = 900
    images = loaded(tmp_path / "a.h5", samples, held_out=0.0)
    assert images.scale == InputScale(0, 900)


def test_images_that_are_rejected_are_left_out(tmp_path):
    samples = noise(np.float32, n=10)
    samples[[2, 7], 0, 0, 0] = np.nan
    images = loaded(tmp_path / "a.h5", samples)
    assert [rejection.index for rejection in images.rejected] == [2, 7]
    np.testing.assert_array_equal(np.union1d(*rows_of(images)), np.delete(np.arange(10), [2, 7]))
    for batch in (*images.epoch(1, 3), *images.held_out(3)):
        assert np.isfinite(batch).all()


def test_one_image_cannot_be_trained_on(tmp_path, sprites):
    with pytest.raises(DatasetError, match="too few images"):
        loaded(tmp_path / "a.h5", sprites[:1])
    with pytest.raises(DatasetError, match="too few images"):
        loaded(tmp_path / "a.h5", sprites[:2], held_out=0.5)


def test_an_odd_image_that_comes_first_is_named_with_what_it_asks_for(tmp_path, as_pngs):
    folder = as_pngs(tmp_path / "d", np.zeros((5, 16, 16, 3), np.uint8))
    Image.new("RGB", (32, 32)).save(folder / "00.png")
    (folder / "000.png").write_bytes(b"broken")
    with pytest.raises(DatasetError, match="too few images") as caught:
        opened(folder)
    text = str(caught.value)
    assert "found 1 of 7: 5 are of another size than 32 x 32 (such as 00000.png), 1 is not an image" in text
    assert "most often (5): height 16, width 16, 3 channels, uint8, expected height 32" in text
    assert "00.png, the first image that can be read, says what size and type the others must have" in text
    assert "; move 00.png out of the data where it is the odd one, or pass --resize" in text


# Streaming


def assert_equal(memory, streamed):
    assert (memory.streamed, streamed.streamed) == (False, True)
    assert memory.scale == streamed.scale
    assert memory.rejected == streamed.rejected
    for one, other in zip(rows_of(memory), rows_of(streamed), strict=True):
        np.testing.assert_array_equal(one, other)
    for epoch in (1, 2):
        for one, other in zip(memory.epoch(epoch, 7), streamed.epoch(epoch, 7), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
    for one, other in zip(memory.held_out(9), streamed.held_out(9), strict=True):
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    n=st.integers(8, 150),
    chunks=st.sampled_from([None, (1, 16, 16, 1), (7, 16, 16, 1), (40, 8, 5, 1), True]),
    window_bytes=st.sampled_from([1, 2**12, 2**14, 2**30]),
    bad=st.sets(st.integers(0, 149), max_size=3),
    seed=st.integers(0, 5),
)
def test_streaming_changes_no_bit(tmp_path_factory, dtype, n, chunks, window_bytes, bad, seed):
    path = tmp_path_factory.mktemp("data") / "a.h5"
    samples = noise(dtype, n, seed)
    if dtype == np.float32:
        samples[[row for row in bad if row < n - 5]] = np.inf
    if chunks not in {None, True} and chunks[0] > n:
        chunks = None
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=samples, chunks=chunks)
    with contextlib.ExitStack() as stack:
        assert_equal(*map(stack.enter_context, both(path, window_bytes, seed=seed)))


@pytest.mark.parametrize("resize", [None, "crop"])
def test_streamed_folders_are_those_in_memory(tmp_path, sprites, resize):
    for number, image in enumerate(sprites[:40]):
        Image.fromarray(image).save(tmp_path / f"{number:02}.png")
    (tmp_path / "07.png").write_bytes(b"no image")
    memory, streamed = both(tmp_path, image_shape=(16, 16, 3) if resize else None, resize=resize)
    assert [rejection.identifier for rejection in streamed.rejected] == ["07.png"]
    assert streamed.image_shape == ((16, 16, 3) if resize else (32, 32, 3))
    assert_equal(memory, streamed)


def test_processes_of_a_pool_share_the_memory_for_images(tmp_path, sprites, monkeypatch):
    alone = data._memory()
    room = int(sprites[:60].nbytes * 3 / data.MEMORY_SHARE)
    monkeypatch.setattr(data.os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": room}.__getitem__)
    monkeypatch.setattr(data, "_sharers", 1)
    memory = loaded(tmp_path / "a.h5", sprites[:60])
    data.share_memory(4)
    streamed = opened(tmp_path / "a.h5")
    assert_equal(memory, streamed)
    assert data._memory() == data.MEMORY_SHARE * room // 4 < alone
    streamed.close()


def test_streamed_images_are_resized(tmp_path, sprites):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = sprites[:60]
    memory, streamed = both(tmp_path / "a.h5", image_shape=(16, 16, 3), resize="stretch")
    assert next(streamed.epoch(1, 4)).shape == (4, 16, 16, 3)
    assert_equal(memory, streamed)
    streamed.close()


@pytest.fixture
def stream(tmp_path, sprites):
    """Sprites as small chunks, streamed in windows of five or six images; every read is noted."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=sprites[:100], chunks=(2, 32, 32, 3))
    with opened(tmp_path / "a.h5", memory=0, window_bytes=5 * 3072) as images:
        images.reads = []
        read = images.source.dataset.read

        def noting(start, stop):
            images.reads.append(range(start, stop))
            return read(start, stop)

        images.source.dataset.read = noting
        yield images


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("training images")]


@pytest.mark.parametrize(("skip", "rank", "world"), [(0, 0, 1), (4, 0, 1), (19, 0, 1), (3, 0, 2), (3, 1, 2)])
def test_what_is_skipped_is_not_read(stream, skip, rank, world):
    batches = list(stream.epoch(3, 4, rank=rank, world=world))
    everything = len(stream.reads)
    stream.reads.clear()
    rest = list(stream.epoch(3, 4, rank=rank, world=world, skip=skip))
    assert len(batches) == stream.steps(4, world=world)
    for one, other in zip(batches[skip:], rest, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(stream.reads) <= everything * (1 - skip / len(batches)) + 6


def test_processes_see_each_streamed_image_once(stream, sprites):
    epochs = [list(stream.epoch(1, 4, rank=rank, world=3)) for rank in range(3)]
    assert {len(batches) for batches in epochs} == {stream.steps(4, world=3)}
    seen = sorted(image.tobytes() for batches in epochs for batch in batches for image in batch)
    assert seen == sorted(image.tobytes() for image in sprites[stream.train_rows])


def test_reading_runs_one_window_ahead_and_ends_with_the_iterator(stream):
    epoch = stream.epoch(1, 5)
    next(epoch)
    # Nobody asks for the second window yet; it is read all the same, and the third is not.
    deadline = time.monotonic() + 10
    while sum(map(len, stream.reads)) < 9 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    # Two windows of at most six images, in chunks of two that may lie apart.
    assert 9 <= sum(map(len, stream.reads)) <= 24
    assert own_threads()
    epoch.close()
    assert not own_threads()
    list(stream.epoch(1, 5))
    assert not own_threads()


def test_an_iterator_that_is_closed_does_not_read_on(stream):
    read = stream.source.dataset.read

    def slowly(start, stop):
        time.sleep(0.05)
        return read(start, stop)

    stream.source.dataset.read = slowly
    epoch = stream.epoch(1, 5)
    next(epoch)
    before = len(stream.reads)
    epoch.close()
    assert before >= 3
    assert len(stream.reads) - before <= 1


def test_a_read_fetches_whole_blocks_and_leaves_the_rest(stream):
    list(stream.epoch(1, 64))
    read = sum(map(len, stream.reads))
    assert stream.n_train <= read <= 100
    stream.reads.clear()
    list(stream.held_out(64))
    assert sum(map(len, stream.reads)) <= 2 * stream.n_held_out


def test_data_that_change_under_a_run(tmp_path, sprites):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(sprites[:30]):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    images = opened(folder, memory=0, window_bytes=5 * 3072)
    (folder / "11.png").unlink()
    with pytest.raises(DatasetError, match=r"changed since the training began.*11\.png is not there") as error:
        list(itertools.chain(images.epoch(1, 8), images.held_out(8)))
    assert "resume" in error.value.remedy
    assert not own_threads()


def test_rows_that_turn_unusable_under_a_run(tmp_path):
    images = loaded(tmp_path / "a.h5", noise(np.float32, 40), memory=0, window_bytes=5 * 1024, held_out=0.0)
    images.close()
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["images"][17] = np.nan
    with images, pytest.raises(DatasetError, match="17 holds non-finite"):
        list(images.epoch(1, 8))


STREAM = """
import resource, sys
import numpy as np
from ngvae_tools.datasets import open_dataset
from ngvae_tools.training.data import load_images

used = 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1])
resource.setrlimit(resource.RLIMIT_AS, (used + 210 * 2**20,) * 2)
with load_images(
    open_dataset(sys.argv[1]), held_out=0.1, seed=0, memory=int(sys.argv[2]), window_bytes=16 * 2**20
) as images:
    count = np.zeros(images.n_train + images.n_held_out, int)
    for batch in images.epoch(1, 64):
        count[batch.reshape(len(batch), -1)[:, :4].copy().view("<u4")[:, 0]] += 1
    assert count.max() == 1 and count.sum() == images.n_train
    for batch in images.held_out(256):
        count[batch.reshape(len(batch), -1)[:, :4].copy().view("<u4")[:, 0]] += 1
    assert (count == 1).all()
print(count.sum())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_a_file_larger_than_memory(tmp_path):
    """337 MiB of images under a limit of 210: HDF5's cache of 64, two windows of 16, two reads of 16, order."""
    n, path = 28_800, tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (n, 64, 64, 3), np.uint8, chunks=(64, 64, 64, 3), compression="lzf")
        block = np.zeros((1920, 64, 64, 3), np.uint8)
        for start in range(0, n, len(block)):
            numbers = np.arange(start, start + len(block), dtype="<u4")
            block.reshape(len(block), -1)[:, :4] = numbers.view(np.uint8).reshape(-1, 4)
            images[start : start + len(block)] = block

    def child(memory):
        words = [sys.executable, "-c", STREAM, path, str(memory)]
        # A thread's own heap would take up to 128 MiB of addresses alone.
        environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
        return subprocess.run(words, check=False, capture_output=True, text=True, env=environment)

    streamed = child(2**20)
    assert streamed.stdout == f"{n}\n", streamed.stderr
    assert "MemoryError" in child(2**40).stderr


# Networks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images_are_scaled_inside_the_encoder(dtype):
    samples = (noise(np.float32, n=3) / (20 if dtype == np.uint8 else 1)).astype(dtype)
    scale = InputScale() if dtype == np.uint8 else InputScale(2000, 3500)
    encoder = Encoder((16, 16, 1), 2, scale)
    images = encoder.images(torch.from_numpy(samples))
    values = (samples.astype(np.float64) - scale.low) / (scale.high - scale.low)
    expected = np.clip(values, 0, 1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-6)
    assert images.dtype == torch.float32
    assert dtype == np.uint8 or {0.0, 1.0} <= set(images.flatten().tolist())


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_images_whose_ends_are_those_of_bytes_by_chance_are_clipped(dtype):
    samples = np.array([0, 51, 255, 300, 60_000] + [0] * 251, dtype).reshape(1, 16, 16, 1)
    images = Encoder((16, 16, 1), 2, InputScale()).images(torch.from_numpy(samples))
    assert images.flatten()[:5].tolist() == pytest.approx([0, 0.2, 1, 1, 1])


def test_a_scale_from_zero_clips():
    samples = torch.tensor([-1.0, 0.0, 2.0, 5.0])
    assert scaled(samples, InputScale(0, 4)).tolist() == [0, 0, 0.5, 1]


@pytest.mark.parametrize("shape", [(32, 48, 1), (48, 16, 5), (16, 16, 3)])
def test_rectangular_images_of_any_channels_pass_both_networks(shape):
    height, width, channels = shape
    encoder, decoder = Encoder(shape, 7, InputScale()), Decoder(shape, 7)
    mu, raw = encoder(encoder.images(torch.zeros(2, *shape, dtype=torch.uint8)))
    assert (mu.shape, raw.shape) == ((2, 7), (2, 7))
    assert decoder(mu).shape == (2, channels, height, width)


@pytest.mark.parametrize("shape", [(31, 32, 3), (32, 40, 1), (0, 16, 1), (8, 16, 1), (28, 28, 1)])
def test_sides_that_are_no_multiple_of_sixteen_are_refused(shape):
    for build in (lambda: Encoder(shape, 2, InputScale()), lambda: Decoder(shape, 2)):
        with pytest.raises(DatasetError, match="multiples of 16") as refusal:
            build()
        assert refusal.value.found == f"{shape[0]} x {shape[1]}"


def test_the_networks_are_the_paper_s():
    model = VariationalAutoencoder(TrainingConfig(latent_dim=15), (64, 64, 3), InputScale())
    convolutions = [layer for layer in model.encoder.convolutions if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [32, 32, 64, 64]
    assert {(layer.kernel_size, layer.stride) for layer in convolutions} == {((3, 3), (2, 2))}


def test_cuda_without_cuda_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match="--device cuda"):
        training_device("cuda")
    assert training_device("auto") == torch.device("cpu")
    assert training_devices() == ("cpu",)


def test_cpu_is_taken_when_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device("cpu") == torch.device("cpu")
    assert training_device("auto") == training_device("cuda") == torch.device("cuda")
