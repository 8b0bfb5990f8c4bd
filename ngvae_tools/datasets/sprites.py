"""The paper's synthetic images: one coloured, anti-aliased shape on black."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ngvae_tools.datasets.sprite_factors import FACTOR_KINDS, FACTOR_NAMES, GRID_SIZE, FactorMode, sample_factors
from ngvae_tools.errors import OptionError, OutputError
from ngvae_tools.files import deferring_errors, replacing

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

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
_CHUNK = 256
_BATCH = 32  # 32 coverages of 64 x 64 in float32 stay inside a 1 MiB cache
_GZIP_LEVEL = 4
_MIN_SIZE = 8
_MAX_SIZE = 1024  # a batch of coverages stays below 200 MB


@dataclass(frozen=True, slots=True)
class SpritesSummary:
    """What `write_sprites` wrote.

    Args:
        path: The HDF5 file.
        images: How many images.
        size: Height and width in pixels.
        file_bytes: The file's size.
    """

    path: Path
    images: int
    size: int
    file_bytes: int


def render(factors: npt.NDArray[np.float64], size: int = 64) -> npt.NDArray[np.uint8]:
    """Render sprites: factors (N, 5) in the order of `FACTOR_NAMES` give images (N, size, size, 3).

    A pixel's value is the hue's fully saturated colour times the share of the pixel that the shape covers:
    exact for squares, by the distance to the edge for circles and triangles.

    Raises:
        OptionError: The size is not between 8 and 1024 pixels.
    """
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise OptionError(
            "the sprites' size cannot be used",
            expected=f"{_MIN_SIZE} to {_MAX_SIZE} pixels",
            found=str(size),
            remedy="pass another --size",
        )
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


def write_sprites(
    path: str | os.PathLike[str],
    *,
    images: int | None,
    size: int = 64,
    seed: int = 0,
    factors: FactorMode = "continuous",
    grid: Mapping[str, int] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SpritesSummary:
    """Write sprites and their factors to an HDF5 file, the same bytes for the same arguments.

    The file holds `images` (N, size, size, 3) uint8 and `labels` (N, 5) float64, whose attribute `names` and
    the file's `factor_names` give `FACTOR_NAMES`, and whose attribute `kinds` gives `FACTOR_KINDS`. It appears
    under its name only when it is whole.

    Args:
        path: The file; missing folders are made.
        images: How many; None: every combination once, in grid mode.
        size: Height and width in pixels, at least 8.
        seed: See `sample_factors`.
        factors: See `sample_factors`.
        grid: See `sample_factors`.
        overwrite: Replace an existing file.
        progress: Called with the numbers of images done and wanted, after every 256.

    Raises:
        OptionError: An argument cannot be used.
        OutputError: The file exists, or cannot be written.
    """
    path = Path(path)
    if images is None and factors == "grid":
        images = GRID_SIZE
    if images is None:
        raise OptionError(
            "the number of sprites is missing",
            expected="a number of images",
            found="none",
            remedy="pass --images, or --factors grid for every combination once",
        )
    values = sample_factors(images, seed, factors=factors, grid=grid)
    first = render(values[:1], size)
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} already exists",
            expected="an unused name",
            found="a file" if path.is_file() else "a folder",
            remedy="name another file, or pass --overwrite to replace it",
        )
    with replacing(path) as part, deferring_errors(part) as sink, h5py.File(sink, "w") as file:
        file.attrs["factor_names"] = FACTOR_NAMES
        file.attrs["generator"] = "ngvae-tools sprites"
        file.attrs["generator_version"] = GENERATOR_VERSION
        file.attrs["seed"] = seed
        file.attrs["size"] = size
        file.attrs["factors"] = factors
        for name, count in sorted((grid or {}).items()):
            file.attrs[f"grid_{name}"] = count
        labels = file.create_dataset("labels", data=values, track_times=False)
        labels.attrs["names"] = FACTOR_NAMES
        labels.attrs["kinds"] = FACTOR_KINDS
        stored = file.create_dataset(
            "images",
            (images, *first.shape[1:]),
            np.uint8,
            chunks=(min(_CHUNK, images), *first.shape[1:]),
            compression="gzip",
            compression_opts=_GZIP_LEVEL,
            track_times=False,
        )
        for start in range(0, images, _CHUNK):
            stop = min(start + _CHUNK, images)
            stored[start:stop] = render(values[start:stop], size)
            sink.check()
            if progress is not None:
                progress(stop, images)
    return SpritesSummary(path, images, size, path.stat().st_size)


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
