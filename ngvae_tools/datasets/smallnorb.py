"""SmallNORB in its own files: three binary matrices each of images, categories and further factors."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.arrays import StoredArray, unreadable
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.inflating import MAX_RATIO, SPAN, DeflatedBytes, PlainBytes, TruncatedError, is_gzip
from ngvae_tools.datasets.published import SMALLNORB
from ngvae_tools.datasets.rows import RowImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import Factors

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

IMAGES = "-dat.mat"
_MAGIC = {0x1E3D4C55: np.dtype(np.uint8), 0x1E3D4C54: np.dtype("<i4")}
_MAX_AXES = 8


@dataclass(frozen=True, slots=True)
class _Part:
    """Three files: image pairs (n, 2, H, W), categories (n,), and instance, elevation, azimuth, light (n, 4)."""

    images: StoredArray
    categories: StoredArray
    info: StoredArray


def is_smallnorb(path: Path) -> bool:
    """Whether a file is a matrix of SmallNORB, or a folder holds one of images. Raises `OSError`."""
    if path.is_dir():
        return any(is_smallnorb(entry) for entry in _image_files(path))
    try:
        return _head(path)[0] in _MAGIC
    except (EOFError, gzip.BadGzipFile, struct.error, zlib.error):
        return False


class SmallNORBImages(RowImages):
    """The images of the first camera, as in disentanglement_lib, of all triplets in a folder, or of one.

    The order is that of the file names, then of the file.

    Args:
        path: A folder of `*-dat.mat`, `*-cat.mat` and `*-info.mat`, each as it is or with gzip (`.gz`); or one
            `*-dat.mat`, beside the two others.
        image_shape: See `RowImages`.
        dtype: See `RowImages`.
        resize: See `RowImages`.

    Raises:
        DatasetError: A file is missing, damaged, or not of the others.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["smallnorb"] = "smallnorb"
    path: Path
    key = "dat"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        files = _image_files(self.path) if self.path.is_dir() else [self.path]
        self._parts = [_part(file) for file in files]
        shapes = {part.images.shape[2:] for part in self._parts}
        if len(shapes) != 1:
            raise unreadable(self.path, "images of one size", ", ".join(map(str, sorted(shapes))))
        self._ends = np.cumsum([part.images.shape[0] for part in self._parts])
        self._settle((int(self._ends[-1]), *shapes.pop()), np.dtype(np.uint8))
        if any(isinstance(part.images.source, DeflatedBytes) for part in self._parts):
            self.chunk_rows = max(SPAN // (2 * self.row_bytes), 1)

    def factors(self) -> Factors:
        """Category, elevation in degrees, azimuth in degrees, and lighting."""
        tables = []
        try:
            for part in self._parts:
                n = part.images.shape[0]
                tables.append(np.column_stack([part.categories.rows(0, n), part.info.rows(0, n)[:, 1:]]))
        except TruncatedError as error:
            raise unreadable(self.path, "categories and further factors of all images", str(error)) from error
        values = np.concatenate(tables).astype(np.float64)
        values[:, 1] = 30 + 5 * values[:, 1]
        values[:, 2] *= 10
        return SMALLNORB.of(values)

    def _release(self) -> None:
        pass

    def _read_rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        images = np.empty((stop - start, *self._stored[:2]), np.uint8)
        reasons: dict[int, str] = {}
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            first = end - part.images.shape[0]
            low, high = max(start, first), min(stop, end)
            if low < high:
                pairs, bad = part.images.usable_rows(low - first, high - first)
                images[low - start : high - start] = pairs[:, 0]
                reasons |= {first + row: reason for row, reason in bad.items()}
        return images, reasons


def _image_files(folder: Path) -> list[Path]:
    """Files of images in a folder, one for each name with and without .gz, in the order of their names."""
    found = {}
    for entry in sorted(folder.iterdir(), reverse=True):
        name = entry.name.removesuffix(".gz")
        if name.endswith(IMAGES) and entry.is_file():
            found[name] = entry  # the plain file comes last
    return [found[name] for name in sorted(found)]


def _part(path: Path) -> _Part:
    name = path.name.removesuffix(".gz")
    if not name.endswith(IMAGES):
        raise unreadable(path, f"a file of images, whose name ends in {IMAGES}", name)
    images = _matrix(path, np.dtype(np.uint8))
    if len(images.shape) != 4 or images.shape[1] != 2:
        raise unreadable(path, "image pairs (N, 2, H, W)", str(images.shape))
    n = images.shape[0]
    others = []
    for word, shape in (("cat", (n,)), ("info", (n, 4))):
        stem = path.parent / f"{name.removesuffix(IMAGES)}-{word}.mat"
        file = next((f for f in (stem, stem.with_name(f"{stem.name}.gz")) if f.is_file()), None)
        if file is None:
            raise DatasetError(
                f"SmallNORB's {path} lies alone",
                expected=f"{stem.name} beside it, or the same with .gz",
                found="neither",
                remedy="put all three files of the set (dat, cat, info) into one folder",
            )
        other = _matrix(file, np.dtype("<i4"))
        if other.shape != shape:
            raise unreadable(file, f"a matrix of shape {shape}", str(other.shape))
        others.append(other)
    return _Part(images, *others)


def _head(path: Path) -> tuple[int, tuple[int, ...], int]:
    """Magic number, shape, and offset of the data. Raises `OSError`, `EOFError` or `struct.error`."""
    with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
        magic, axes = struct.unpack("<Ii", file.read(8))
        if magic not in _MAGIC or not 1 <= axes <= _MAX_AXES:
            return 0, (), 0
        # Three sizes are stored at least, whether there are as many axes or not.
        stored = max(axes, 3)
        return magic, struct.unpack(f"<{stored}i", file.read(4 * stored))[:axes], 8 + 4 * stored


def _matrix(path: Path, dtype: np.dtype[Any]) -> StoredArray:
    try:
        magic, shape, offset = _head(path)
        packed, size = is_gzip(path), path.stat().st_size
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise unreadable(path, "a matrix in SmallNORB's format", str(error) or "an end too soon") from error
    if _MAGIC.get(magic) != dtype or min(shape, default=0) < 1:
        raise unreadable(path, f"a matrix of {dtype} in SmallNORB's format", f"type {magic:#x}, shape {shape}")
    total = offset + math.prod(shape) * dtype.itemsize
    if total > size * (MAX_RATIO if packed else 1):
        raise unreadable(path, f"{total:,} bytes, a matrix {shape} of {dtype}", f"{size:,} bytes")
    if not packed:
        return StoredArray(shape, dtype, PlainBytes(path), offset)
    source = DeflatedBytes(path, total)
    if (damage := source.damage()) is not None:
        raise unreadable(path, "an undamaged gzip stream", damage)
    return StoredArray(shape, dtype, source, offset)
