"""Cars3D (Reed et al. 2015): a MATLAB file a car, in a folder or in the archive it is published as."""

from __future__ import annotations

import io
import math
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.arrays import unreadable
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.inflating import DeflatedBytes, PlainBytes, TruncatedError, is_gzip
from ngvae_tools.datasets.published import CARS3D
from ngvae_tools.datasets.rows import RowImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import Factors

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

FOLDERS = ("cars", "data")
"""Folders below the one that is named, where the files may lie: cars, or data/cars."""

_VARIABLE = "im"
_MAX_FILE = 64 * 2**20  # the published files hold 4.7 MB each
_MAX_ARCHIVE = 16 * 2**30
_MAX_FILES = 100_000
_TRIED = 8  # damaged files at the beginning, before the whole is taken for something else
_COMPRESSED = 15  # MATLAB's miCOMPRESSED
_BAD_MAT = (
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What SciPy raises for damaged files, beside an error of its own."""


class UnusableCarError(Exception):
    """A file that cannot be used; the text is the reason."""


@dataclass(frozen=True, slots=True)
class _Car:
    """One file: its name, the bytes that hold it, and where and how long it is in them."""

    name: str
    source: PlainBytes | DeflatedBytes
    offset: int
    length: int


def is_cars3d(path: Path) -> bool:
    """Whether a folder, or a tar archive, holds Cars3D's files. Raises `OSError`."""
    try:
        if not path.is_dir() and not tarfile.is_tarfile(path):
            return False
        for car in _cars(path)[:_TRIED]:
            try:
                _meshes(car)
            except UnusableCarError:
                continue
            return True
    except (DatasetError, tarfile.TarError, EOFError, zlib.error):
        return False
    return False


class Cars3DImages(RowImages):
    """Every view of every car: the cars in the order of the file names, azimuths, and elevations fastest.

    A car whose file cannot be used is a rejection of each of its views.

    Args:
        path: A folder that holds the .mat files, itself or in `cars` or `data/cars`; or a tar archive of them.
        image_shape: See `RowImages`.
        dtype: See `RowImages`.
        resize: See `RowImages`.

    Raises:
        DatasetError: There is no usable file, or the archive is damaged.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["cars3d"] = "cars3d"
    path: Path
    key = _VARIABLE

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        self._files = _cars(self.path)
        self._last: tuple[int, npt.NDArray[np.uint8] | str] = (-1, "")
        shape = next((found.shape for k in range(len(self._files)) if not isinstance(found := self._car(k), str)), None)
        if shape is None:
            reason = self._last[1] if self._files else "no .mat file"
            raise unreadable(self.path, f"Cars3D's files, each with a variable {_VARIABLE}", str(reason))
        self._views = shape[:2]
        self._settle((len(self._files) * math.prod(self._views), *shape[2:]), np.dtype(np.uint8))
        self.chunk_rows = math.prod(self._views)

    def factors(self) -> Factors:
        """Elevation and azimuth (in degrees, over the full turn) by position, and the number of the car."""
        azimuths, elevations = self._views
        car, azimuth, elevation = np.unravel_index(np.arange(len(self)), (len(self._files), azimuths, elevations))
        return CARS3D.of(np.column_stack([elevation, azimuth * 360 / azimuths, car]).astype(np.float64))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_last": (-1, "")}

    def _release(self) -> None:
        self._last = (-1, "")

    def _read_rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        images = np.zeros((stop - start, *self._stored), np.uint8)
        bad: dict[int, str] = {}
        per_car = math.prod(self._views)
        for number in range(start // per_car, -(-stop // per_car)):
            first = number * per_car
            low, high = max(start, first), min(stop, first + per_car)
            car = self._car(number)
            if not isinstance(car, str) and car.shape != (*self._views, *self._stored):
                car = f"holds {car.shape}, not {(*self._views, *self._stored)}"
            if isinstance(car, str):
                bad |= dict.fromkeys(range(low, high), f"lies in {self._files[number].name}, which {car}")
            else:
                images[low - start : high - start] = car.reshape(per_car, *self._stored)[low - first : high - first]
        return images, bad

    def _car(self, number: int) -> npt.NDArray[np.uint8] | str:
        """One car's images (azimuths, elevations, H, W, 3), or why there are none; the last is kept."""
        if self._last[0] != number:
            try:
                self._last = number, _meshes(self._files[number])
            except UnusableCarError as error:
                self._last = number, str(error)
        return self._last[1]


def _cars(path: Path) -> list[_Car]:
    """The .mat files in the order of their names. Raises `OSError`, `DatasetError`, `tarfile.TarError`."""
    if not path.is_dir():
        return _archived(path)
    for folder in (path, path / "cars", path / "data" / "cars"):
        files = sorted(folder.glob("*.mat")) if folder.is_dir() else []
        if files:
            return [_Car(file.name, PlainBytes(file), 0, file.stat().st_size) for file in files]
    return []


def _archived(path: Path) -> list[_Car]:
    source: PlainBytes | DeflatedBytes = PlainBytes(path)
    if is_gzip(path):
        source = DeflatedBytes(path, _MAX_ARCHIVE)
    found = []
    try:
        with tarfile.TarFile(fileobj=_Readable(source)) as archive:
            for count, member in enumerate(archive):
                if member.isreg() and member.name.endswith(".mat"):
                    found.append(_Car(member.name, source, member.offset_data, member.size))
                if count > _MAX_FILES or member.offset_data + member.size > _MAX_ARCHIVE:
                    raise unreadable(path, f"an archive of at most {_MAX_FILES:,} files and 16 GiB", "a larger one")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise unreadable(path, "an undamaged tar archive", str(error)) from error
    # The published archive holds other sets too.
    cars = [car for car in found if "cars" in Path(car.name).parts[:-1]]
    return sorted(cars or found, key=lambda car: car.name)


class _Readable(io.RawIOBase):
    """A file object over bytes of unknown length, which refuses large reads: tar's headers are small."""

    def __init__(self, source: PlainBytes | DeflatedBytes) -> None:
        super().__init__()
        self._source, self._place = source, 0

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        if not 0 <= size <= 2**20:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        for length in (size, size - size % tarfile.BLOCKSIZE - tarfile.BLOCKSIZE, 0):
            if length < 0:
                continue
            try:
                data = self._source.read(self._place, length) if length else b""
            except TruncatedError:
                continue
            self._place += len(data)
            return data
        return b""

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """To a place from the start."""
        if whence:
            raise io.UnsupportedOperation("only from the start")
        self._place = offset
        return offset

    def tell(self) -> int:
        """The place of the next read."""
        return self._place


def _meshes(car: _Car) -> npt.NDArray[np.uint8]:
    """Images (azimuths, elevations, H, W, 3) of one file. Raises `UnusableCarError`."""
    from scipy.io.matlab import MatReadError

    if car.length > _MAX_FILE:
        raise UnusableCarError(f"is larger than {_MAX_FILE // 2**20} MiB")
    try:
        mesh = _variable(b"".join(_elements(car.source.read(car.offset, car.length))))
    except TruncatedError as error:
        raise UnusableCarError(f"cannot be read: {error}") from error
    except (*_BAD_MAT, MatReadError) as error:
        raise UnusableCarError(f"is damaged: {error or type(error).__name__}") from error
    if mesh.ndim != 5 or mesh.shape[2] != 3 or mesh.dtype != np.uint8:
        raise UnusableCarError(f"holds {_VARIABLE} as {mesh.dtype} {mesh.shape}, not uint8 (H, W, 3, azimuths, views)")
    return np.ascontiguousarray(mesh.transpose(3, 4, 0, 1, 2))


def _variable(content: bytes) -> npt.NDArray[Any]:
    """The images of a file without compressed elements; the header's shape is believed only up to a limit."""
    from scipy.io import loadmat, whosmat

    # SciPy's stubs know only files that can be written too.
    file: Any = io.BytesIO(content)
    shape = next((shape for name, shape, _ in whosmat(file) if name == _VARIABLE), None)
    if shape is None or not 0 < math.prod(shape) <= _MAX_FILE:
        raise UnusableCarError(f"has no variable {_VARIABLE}" if shape is None else f"claims images of {shape}")
    file.seek(0)
    return np.asarray(loadmat(file, variable_names=[_VARIABLE])[_VARIABLE])


def _elements(data: bytes) -> Iterator[bytes]:
    """A MATLAB 5 file with its compressed elements inflated, so that none of them can claim more than it holds."""
    if data[126:128] not in {b"IM", b"MI"}:
        raise UnusableCarError("is no MATLAB 5 file")
    yield data[:128]
    order = "<" if data[126:128] == b"IM" else ">"
    place, total = 128, 0
    while place + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, place)
        part = data[place : place + 8 + length]
        if kind == _COMPRESSED:
            part = zlib.decompressobj().decompress(part[8:], _MAX_FILE)
        total += len(part)
        if total >= _MAX_FILE:
            raise UnusableCarError(f"is larger than {_MAX_FILE // 2**20} MiB when inflated")
        yield part
        place += 8 + length
