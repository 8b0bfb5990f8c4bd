"""The paper's synthetic images: one coloured, anti-aliased shape on black."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ngvae_tools.errors import OptionError

if TYPE_CHECKING:
    import numpy.typing as npt

    _Float = npt.NDArray[np.float32]

GENERATOR_VERSION = 1
"""Raised whenever the same arguments give other images."""

RADIUS = 0.36
"""Radius of a circle at depth 1, in half-widths of the image."""

SQUARE = 0.85
"""Half side of a square, in radii."""

_TRIANGLE_BASE = 0.8  # the base lies so many radii below the centre, the tip one radius above
_TRIANGLE_SLOPE = 1.8  # height of the triangle over half its base, which is one radius
_BATCH = 32  # 32 coverages of 64 x 64 in float32 stay inside a 1 MiB cache

MIN_SIZE = 8
MAX_SIZE = 1024
"""Pixels; a batch of coverages stays below 200 MB."""


def check_size(size: int) -> None:
    """Refuse a height and width that cannot be drawn with an `OptionError`."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise OptionError(
            "the sprites' size cannot be used",
            expected=f"{MIN_SIZE} to {MAX_SIZE} pixels",
            found=str(size),
            remedy="pass another --size",
        )


def render(factors: npt.NDArray[np.float64], size: int = 64) -> npt.NDArray[np.uint8]:
    """Render sprites: factors (N, 5) in the order of `FACTOR_NAMES` give images (N, size, size, 3).

    A pixel's value is the hue's fully saturated colour times the share of the pixel that the shape covers:
    exact for squares, by the distance to the edge for circles and triangles.

    Raises:
        OptionError: The size is not between 8 and 1024 pixels.
    """
    check_size(size)
    images = np.zeros((len(factors), size, size, 3), np.uint8)
    colours = 255 * _saturated(factors[:, 0].astype(np.float32))
    for shape in range(3):
        chosen = np.flatnonzero(factors[:, 1] == shape)
        for start in range(0, len(chosen), _BATCH):
            rows = chosen[start : start + _BATCH]
            covered = _coverage(shape, factors[rows, 2:].astype(np.float32), size)
            batch = np.empty((len(rows), size, size, 3), np.uint8)
            scaled = np.empty_like(covered)
            # One channel at a time: numpy is slow over an innermost axis of three.
            for channel in range(3):
                np.multiply(covered, colours[rows, channel][:, None, None], out=scaled)
                scaled += np.float32(0.5)
                batch[..., channel] = scaled
            images[rows] = batch
    return images


def _saturated(hue: _Float) -> _Float:
    """RGB (N, 3) in [0, 1] of hues at full saturation and value."""
    sixths = hue * np.float32(6)
    red, green, blue = np.abs(sixths - 3) - 1, 2 - np.abs(sixths - 2), 2 - np.abs(sixths - 4)
    colours: _Float = np.clip(np.stack([red, green, blue], axis=1), 0, 1)
    return colours


def _coverage(shape: int, place: _Float, size: int) -> _Float:
    """Share of every pixel that a shape covers, (B, size, size); `place` (B, 3) holds x, y, depth."""
    half = np.float32(size / 2)
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    radius = (half * np.float32(RADIUS) / place[:, 2])[:, None]
    dx = centres - (half * (1 + place[:, 0]))[:, None]
    dy = centres - (half * (1 + place[:, 1]))[:, None]
    if shape == 0:
        side = np.float32(SQUARE) * radius
        across, down = _overlap(dx, side), _overlap(dy, side)
        product: _Float = down[:, :, None] * across[:, None, :]
        return product
    inside: _Float
    if shape == 1:
        inside = (dy * dy)[:, :, None] + (dx * dx)[:, None, :]
        np.sqrt(inside, out=inside)
        np.subtract((radius + np.float32(0.5))[:, :, None], inside, out=inside)
    else:
        unit = np.float32(1 / np.hypot(1, 1 / _TRIANGLE_SLOPE))
        slanted = (dy + radius) * (unit / np.float32(_TRIANGLE_SLOPE)) + np.float32(0.5)
        inside = slanted[:, :, None] - (unit * np.abs(dx))[:, None, :]
        base = np.float32(_TRIANGLE_BASE) * radius - dy + np.float32(0.5)
        np.minimum(inside, base[:, :, None], out=inside)
    np.clip(inside, 0, 1, out=inside)
    return inside


def _overlap(offset: _Float, side: _Float) -> _Float:
    """Length of the overlap of pixels at `offset` with the interval from -side to side, in pixels."""
    right, left = np.minimum(offset + np.float32(0.5), side), np.maximum(offset - np.float32(0.5), -side)
    overlap: _Float = np.clip(right - left, 0, 1)
    return overlap
