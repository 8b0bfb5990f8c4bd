"""An array that lies in a file, plain or deflated, read by rows; and where NumPy's .npz files keep theirs."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from ngvae_tools.datasets.inflating import MAX_RATIO, RAW, DeflatedBytes, PlainBytes, TruncatedError
from ngvae_tools.errors import DatasetError

BAD_NPZ = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What zipfile and NumPy raise for damaged files; encrypted ones give RuntimeError."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")


class Readable(Protocol):
    """Bytes that can be read at any offset."""

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`. Raises `TruncatedError`."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array (N, ...) in C order.

    Attributes:
        shape: Its shape.
        dtype: Its dtype, as stored.
        source: The bytes it lies in.
        offset: Where it begins in them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    source: Readable
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows (stop - start, ...), a copy that may be written to. Raises `TruncatedError`."""
        data = self.source.read(self.offset + start * self.row_bytes, (stop - start) * self.row_bytes)
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:]).copy()

    def usable_rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """Rows, zeros where they cannot be read, and the reasons of those."""
        try:
            return self.rows(start, stop), {}
        except TruncatedError:
            array = np.zeros((stop - start, *self.shape[1:]), self.dtype)
        bad = {}
        for row in range(start, stop):
            try:
                array[row - start] = self.rows(row, row + 1)[0]
            except TruncatedError as error:
                bad[row] = f"cannot be read: {error}"
        return array, bad


def npz_names(path: Path) -> tuple[str, ...]:
    """Names of the arrays in an .npz file.

    Raises:
        DatasetError: It is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))
    except BAD_NPZ as error:
        raise unreadable(path, "an undamaged .npz file", str(error)) from error


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and dtype of an .npy file; the stream then stands at its data.

    Raises one of `BAD_NPZ` where it is damaged.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    return shape, fortran, dtype


def npz_array(path: Path, name: str) -> StoredArray:
    """The array of that name in an .npz file; nothing is unpickled, and what is deflated is inflated once to check it.

    Raises:
        DatasetError: It is damaged, holds objects, or its shape is not what is stored.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as stream:
                shape, fortran, dtype = npy_header(stream)
                offset = stream.tell()
        with path.open("rb") as file:
            file.seek(info.header_offset)
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    except (*BAD_NPZ, struct.error) as error:
        raise unreadable(path, f"an array {name}", str(error)) from error
    claimed = math.prod(shape) * dtype.itemsize
    compressed = info.compress_type == zipfile.ZIP_DEFLATED
    most = info.compress_size * (MAX_RATIO if compressed else 1)
    if dtype.hasobject or (fortran and len(shape) > 1) or info.compress_type not in {0, zipfile.ZIP_DEFLATED}:
        raise unreadable(path, f"numbers in C order under {name}", f"{dtype}, compressed by {info.compress_type}")
    if (
        claimed + offset > info.file_size
        or info.file_size > most
        or signature != b"PK\x03\x04"
        or min(shape, default=0) < 0
    ):
        raise unreadable(path, "arrays that are stored in full", f"{name} of shape {shape} in {most} bytes")
    start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if not compressed:
        return StoredArray(shape, dtype, PlainBytes(path, start), offset)
    source = DeflatedBytes(path, info.file_size, start=start, form=RAW)
    if (damage := source.damage(info.CRC)) is not None:
        raise unreadable(path, f"an undamaged array {name}", damage)
    return StoredArray(shape, dtype, source, offset)


def unreadable(path: Path, expected: str, found: str) -> DatasetError:
    """The error of a file that is damaged or not what it should be."""
    return DatasetError(
        f"{path} cannot be read",
        expected=expected,
        found=found,
        remedy="check the file, or fetch it again",
    )
