"""How close images are to others: peak signal-to-noise ratio and structural similarity; numpy and scipy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WINDOW = 11
"""Width of the window of SSIM, in pixels."""

SIGMA = 1.5
"""Standard deviation of its weights, in pixels."""

C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM for values from 0 to 1."""

Images = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Quality:
    """How close images are to others.

    Attributes:
        psnr: In dB; infinite where the images are equal.
        ssim: From -1 to 1; 1 where they are equal.
    """

    psnr: float
    ssim: float


def quality(images: Images, reference: Images) -> Quality:
    """Both numbers of images against others, values in [0, 1], shape (N, H, W, C), N at least 1.

    Raises:
        ValueError: The shapes differ, or there is no image.
    """
    return Quality(psnr(images, reference), ssim(images, reference))


def psnr(images: Images, reference: Images) -> float:
    """Peak signal-to-noise ratio in dB: -10 log10 of the mean squared error over all values, which lie in [0, 1].

    It is that of all images together, not the mean of one of each; infinite where they are equal.

    Args:
        images: Shape (N, H, W, C).
        reference: The same shape.

    Raises:
        ValueError: The shapes differ, or there is no image.
    """
    _check(images, reference)
    # Image by image, so that no copy of all of them is made.
    total = sum(
        float(((one.astype(np.float64) - other) ** 2).sum()) for one, other in zip(images, reference, strict=True)
    )
    return -10 * math.log10(total / images.size) if total > 0 else math.inf


def ssim(images: Images, reference: Images) -> float:
    """Structural similarity (Wang, Bovik, Sheikh and Simoncelli 2004, equation 13), the mean over all images.

    Means, variances and the covariance of a pixel are weighted by a Gaussian of 11 x 11 pixels with a standard
    deviation of 1.5, its weights summing to 1; the constants are 0.01^2 and 0.03^2 for values from 0 to 1. The mean
    is over the pixels whose whole window lies in the image, and over the channels, each taken alone. For images
    with a side below 11 the window is the largest odd number of pixels that fits into the shorter side.

    Args:
        images: Values in [0, 1], shape (N, H, W, C).
        reference: The same shape.

    Raises:
        ValueError: The shapes differ, or there is no image.
    """
    _check(images, reference)
    width = min(WINDOW, *images.shape[1:3])
    width -= 1 - width % 2
    each = [
        _ssim(one.astype(np.float64), other.astype(np.float64), width)
        for one, other in zip(images, reference, strict=True)
    ]
    return float(np.mean(each))


def _ssim(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], width: int) -> float:
    from scipy.ndimage import correlate1d

    half = width // 2
    weights = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()

    def mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found = correlate1d(correlate1d(values, weights, axis=0), weights, axis=1)
        inside: npt.NDArray[np.float64] = found[half : len(found) - half, half : found.shape[1] - half]
        return inside

    x_mean, y_mean = mean(x), mean(y)
    x_variance, y_variance = mean(x * x) - x_mean**2, mean(y * y) - y_mean**2
    covariance = mean(x * y) - x_mean * y_mean
    above = (2 * x_mean * y_mean + C1) * (2 * covariance + C2)
    below = (x_mean**2 + y_mean**2 + C1) * (x_variance + y_variance + C2)
    return float((above / below).mean())


def _check(images: Images, reference: Images) -> None:
    if images.shape != reference.shape or images.ndim != 4 or not images.size:
        raise ValueError(f"images of shape {images.shape} and {reference.shape} cannot be compared")
