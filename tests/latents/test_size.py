"""How close whole files come to the entropy of their symbols."""

import h5py
import numpy as np
import pytest

from tests.latent_files import write

ROWS = 100_000
LIBRARIES = "h5py hdf5 imagecodecs ngvae-tools numpy onnx onnxruntime python scipy zlib"
VERSIONS = dict.fromkeys(LIBRARIES.split(), "1.26.4")
PREPROCESSING = {
    "channel_order": "RGB",
    "image_shape": [64, 64, 3],
    "layout": "NCHW",
    "resize": "bilinear",
    "scale": [0.0, 1.0],
}


def excess(path, snr, codec):
    """The file less its identifiers over the entropy, for Gaussian dimensions of these ratios of variances."""
    values = np.random.default_rng(0).normal(size=(ROWS, len(snr))) * np.sqrt(snr)
    header = write(path, values, codec=codec, variance=1.0, versions=VERSIONS, preprocessing=PREPROCESSING)
    with h5py.File(path) as file:
        names = file["identifiers"].id.get_storage_size()
    most = max(int(np.ptp(column)) for column in np.rint(values / header.coding.step).T) + 1
    return (path.stat().st_size - names) / (header.entropy.sum() * ROWS / 8), most


UNDER = np.geomspace(5, 100, 7)
OVER = np.geomspace(50, 973, 7)
# Steps are 0.35 of the noise's deviation, so that a ratio of 0.04 is 1.4 bits.
NARROW = np.array([0.01, 0.02, 0.04, 1.0, 20.0, 50.0, 100.0])


@pytest.mark.parametrize(("snr", "wide"), [(UNDER, False), (OVER, True)])
def test_deflate_is_within_five_per_cent_of_the_entropy(tmp_path, snr, wide):
    found, levels = excess(tmp_path / "latents.h5", snr, "deflate")
    assert (levels > 256) == wide
    assert found <= 1.05


def test_long_tails_leave_the_lowest_byte_to_most_of_the_numbers(tmp_path):
    """Where the 256 numbers that hold most lie across a multiple of 256 from the smallest, they are moved off it."""
    values = np.random.default_rng(0).standard_t(4, size=(ROWS, 7)) * np.sqrt(np.geomspace(5, 100, 7) / 2)
    header = write(tmp_path / "latents.h5", values, variance=1.0)
    numbers = np.rint(values / header.coding.step).astype(np.int64)
    upper = (numbers - header.coding.base) >> 8
    most = [np.bincount(column).max() / ROWS for column in upper.T]
    assert (header.coding.shift == 0).any()
    assert min(share for share, shift in zip(most, header.coding.shift, strict=True) if shift == 0) > 0.97


@pytest.mark.parametrize(
    "snr",
    [
        pytest.param(UNDER, id="under 256"),
        pytest.param(OVER, id="over 256"),
        pytest.param(NARROW, id="under 1.5 bits"),
    ],
)
def test_archive_is_within_three_per_cent_of_the_entropy(tmp_path, snr):
    assert excess(tmp_path / "latents.h5", snr, "archive")[0] <= 1.03
