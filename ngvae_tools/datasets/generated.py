"""Files of generated images with their factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ngvae_tools.datasets.factor_sets import SetName, find_set
from ngvae_tools.datasets.sprite_factors import GRID_SIZE, FactorMode
from ngvae_tools.datasets.sprites import check_size
from ngvae_tools.errors import OptionError, OutputError
from ngvae_tools.files import deferring_errors, replacing

if TYPE_CHECKING:
    import os

_CHUNK = 256
_GZIP_LEVEL = 4


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


def write_sprites(
    path: str | os.PathLike[str],
    *,
    images: int | None,
    size: int = 64,
    seed: int = 0,
    image_set: SetName = "paper",
    factors: FactorMode = "continuous",
    grid: Mapping[str, int] | None = None,
    fixed: Mapping[str, float] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SpritesSummary:
    """Write generated images and their factors to an HDF5 file, the same bytes for the same arguments.

    The file holds `images` (N, size, size, C) uint8 and `labels` (N, F) float64, whose attribute `names` and
    the file's `factor_names` give the factors' names, and whose attribute `kinds` gives their kinds. It appears
    under its name only when it is whole.

    Args:
        path: The file; missing folders are made.
        images: How many; None: every combination once, in grid mode.
        size: Height and width in pixels, at least 8.
        seed: See `FactorSet.sample`.
        image_set: The name of a set of `FACTOR_SETS`.
        factors: See `FactorSet.sample`.
        grid: See `FactorSet.sample`.
        fixed: See `FactorSet.sample`.
        overwrite: Replace an existing file.
        progress: Called with the numbers of images done and wanted, after every 256.

    Raises:
        OptionError: An argument cannot be used.
        OutputError: The file exists, or cannot be written.
    """
    path = Path(path)
    chosen = find_set(image_set)
    check_size(size)
    if images is None and factors == "grid":
        images = GRID_SIZE
    if images is None:
        raise OptionError(
            "the number of sprites is missing",
            expected="a number of images",
            found="none",
            remedy="pass --images, or --factors grid for every combination once",
        )
    values = chosen.sample(images, seed, factors=factors, grid=grid, fixed=fixed)
    first = chosen.render(values[:1], size)
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} already exists",
            expected="an unused name",
            found="a file" if path.is_file() else "a folder",
            remedy="name another file, or pass --overwrite to replace it",
        )
    with replacing(path) as part, deferring_errors(part) as sink, h5py.File(sink, "w") as file:
        file.attrs["factor_names"] = chosen.names
        file.attrs["generator"] = "ngvae-tools sprites"
        file.attrs["generator_version"] = chosen.version
        file.attrs["seed"] = seed
        file.attrs["size"] = size
        file.attrs["factors"] = factors
        for name, count in sorted((grid or {}).items()):
            file.attrs[f"grid_{name}"] = count
        for name, value in sorted((fixed or {}).items()):
            file.attrs[f"fixed_{name}"] = value
        if chosen.name != "paper":
            file.attrs["set"] = chosen.name
        labels = file.create_dataset("labels", data=values, track_times=False)
        labels.attrs["names"] = chosen.names
        labels.attrs["kinds"] = chosen.kinds
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
            stored[start:stop] = chosen.render(values[start:stop], size)
            sink.check()
            if progress is not None:
                progress(stop, images)
    return SpritesSummary(path, images, size, path.stat().st_size)
