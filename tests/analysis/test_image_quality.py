import math

import numpy as np
import pytest

from ngvae_tools.analysis.image_quality import psnr, quality, ssim


def by_hand(x, y, width=11, sigma=1.5):
    """SSIM pixel by pixel, as the paper writes it."""
    half = width // 2
    line = np.array([math.exp(-(k**2) / (2 * sigma**2)) for k in range(-half, half + 1)])
    weights = np.outer(line, line) / line.sum() ** 2
    found = []
    for row in range(half, x.shape[0] - half):
        for column in range(half, x.shape[1] - half):
            for channel in range(x.shape[2]):
                place = slice(row - half, row + half + 1), slice(column - half, column + half + 1), channel
                a, b = x[place], y[place]
                a_mean, b_mean = (weights * a).sum(), (weights * b).sum()
                a_var, b_var = (weights * (a - a_mean) ** 2).sum(), (weights * (b - b_mean) ** 2).sum()
                both = (weights * (a - a_mean) * (b - b_mean)).sum()
                above = (2 * a_mean * b_mean + 1e-4) * (2 * both + 9e-4)
                found.append(above / ((a_mean**2 + b_mean**2 + 1e-4) * (a_var + b_var + 9e-4)))
    return np.mean(found)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    images = rng.random((3, 17, 14, 3))
    return images, np.clip(images + rng.normal(0, 0.1, images.shape), 0, 1)


def test_psnr_of_a_constant_difference():
    black = np.zeros((2, 8, 8, 1))
    assert psnr(black + 0.1, black) == pytest.approx(20)
    assert psnr(black + 1, black) == 0
    # One of two images differs: the mean is over all values, not of decibels.
    black[1] = 0.1
    assert psnr(black, np.zeros_like(black)) == pytest.approx(20 + 10 * math.log10(2))
    assert psnr(black, black) == math.inf


def test_ssim_equals_a_loop(pair):
    images, other = pair
    expected = np.mean([by_hand(x, y) for x, y in zip(images, other, strict=True)])
    assert ssim(images, other) == pytest.approx(expected, rel=1e-10)
    assert ssim(images, other) == pytest.approx(ssim(other, images), rel=1e-12)
    assert 0 < ssim(images, other) < 1


@pytest.mark.parametrize(("side", "width"), [(10, 9), (9, 9), (2, 1), (1, 1)])
def test_small_images_take_a_smaller_window(pair, side, width):
    images, other = (each[:1, :side] for each in pair)
    assert ssim(images, other) == pytest.approx(by_hand(images[0], other[0], width), rel=1e-9)


def test_ssim_of_flat_images():
    x, y = np.full((1, 16, 16, 1), 0.2), np.full((1, 16, 16, 1), 0.6)
    assert ssim(x, y) == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4))
    assert quality(x, x).ssim == pytest.approx(1)


def test_float32_is_summed_in_float64(pair):
    images = pair[0].astype(np.float32)
    assert ssim(images, images) == pytest.approx(1, abs=1e-12)


def test_shapes_that_cannot_be_compared():
    for a, b in (((1, 4, 4, 3), (1, 4, 4, 1)), ((0, 4, 4, 3), (0, 4, 4, 3)), ((4, 4, 3), (4, 4, 3))):
        with pytest.raises(ValueError, match="cannot be compared"):
            psnr(np.zeros(a), np.zeros(b))
