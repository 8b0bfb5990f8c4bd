"""What a sample of images takes: the sizes that Pillow writes, of the same images however they are read."""

import io

import numpy as np
import pytest
from PIL import Image

from ngvae_tools.datasets.base import Samples
from ngvae_tools.datasets.footprint import SAMPLE_IMAGES, Footprint, footprint_of


def samples_of(n, shape=(9, 8, 3), dtype=np.uint8, start=0):
    images = np.random.default_rng(0).integers(0, 256, (n, *shape)).astype(dtype)
    return Samples(np.arange(start, start + n), images)


def written(images, kind, **options):
    total = 0
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, kind, **options)
        total += len(file.getvalue())
    return total


@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_are_those_of_the_files(channels):
    samples = samples_of(20, (9, 8, channels))
    found = footprint_of(samples, 20)
    assert (found.images, found.raw) == (20, 20 * 72 * channels)
    assert found.png == written(samples.images, "PNG")
    assert found.jpeg == written(samples.images, "JPEG", quality=90)


@pytest.mark.parametrize(
    ("shape", "dtype", "png", "jpeg"),
    [
        ((9, 8, 4), np.uint8, True, False),
        ((9, 8, 2), np.uint8, True, False),
        ((9, 8, 1), np.uint16, True, False),
        ((9, 8, 3), np.uint16, False, False),
        ((9, 8, 3), np.float32, False, False),
        ((9, 8, 5), np.uint8, False, False),
    ],
)
def test_types_that_a_format_does_not_have(shape, dtype, png, jpeg):
    found = footprint_of(samples_of(3, shape, dtype), 3)
    assert (found.png is not None, found.jpeg is not None) == (png, jpeg)
    assert found.raw == 3 * np.prod(shape) * np.dtype(dtype).itemsize


@pytest.mark.parametrize("length", [1, 63, 64, 65, 1000, 4097])
def test_a_sample_spread_evenly_however_it_is_read(length):
    whole = samples_of(length, (2, 2, 1))
    found = footprint_of(whole, length)
    assert min(length, SAMPLE_IMAGES) / 2 <= found.images <= SAMPLE_IMAGES
    for size in (1, 7, 256):
        parts = [Samples(whole.index[k : k + size], whole.images[k : k + size]) for k in range(0, length, size)]
        assert sum((footprint_of(part, length) for part in parts), Footprint()) == found


def test_large_images_are_few():
    assert footprint_of(samples_of(8, (2048, 2048, 3)), 8).images == 4


def test_nothing_is_nothing():
    assert footprint_of(samples_of(0), 10) == Footprint()
    assert Footprint(1, 5, None, 3) + Footprint() == Footprint(1, 5, None, 3)
