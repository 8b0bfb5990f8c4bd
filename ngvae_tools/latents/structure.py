"""The parts of a latent file: found with HDF5, checked one by one, and read without it.

A file may come from anywhere. HDF5 sees it through `_Window`, which ends whoever reads too much, and is asked only
where things are; what does not look as `ngvae_tools.latents.writer` writes it is refused before anything of it is
read. No handle of HDF5 stays open: a file is never locked, can be read by several threads, and after a fork.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import RecordError
from ngvae_tools.files import FileBytes
from ngvae_tools.latents.coding import CODE_TYPES
from ngvae_tools.latents.gate import NAME_ONE, Gate, GateError
from ngvae_tools.latents.header import CHUNK_ROWS, FORMAT, VERSION
from ngvae_tools.latents.packing import DamagedError, unpack

if TYPE_CHECKING:
    import h5py

MOST_TEXT = 2**26
"""Bytes of an identifier or the metadata at most."""

_MOST_ATTRIBUTE = 2**16

_SLACK = 1024
_LEAST_CHUNK = 8
"""Bytes of the smallest deflate stream, with its checksum."""

_MOST_INFLATED = 1032
"""Bytes that one byte of deflate becomes, at most."""

_READS, _READ_BYTES = 200_000, 64 * 2**20

_INTEGER, _FLOAT = (np.dtype("<i8"),), (np.dtype("<f8"),)
_REMEDY = "write it again with select-latents, or restore it from a copy"
TEXT_ATTRIBUTES = ("family", "rule", "encoder_sha256", "codes_sha256")


class _Refusal(Exception):  # noqa: N818 - it never leaves this module
    """What is wrong with a part of the file, and what to do where that is something else than usual, in words."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in chunks of rows of one column.

    Attributes:
        name: Its name in the file.
        shape: (N,) or (N, d).
        dtype: Type of its values.
        rows: Rows of a chunk.
        offsets: Where each chunk lies, shape (chunks of a column, d).
        sizes: Bytes of each, the same shape.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    @property
    def width(self) -> int:
        """Number d of columns; 1 for an array of one axis."""
        return self.shape[1] if len(self.shape) > 1 else 1


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """Bytes that lie together, as they are."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Structure:
    """What is in a file.

    Attributes:
        path: The file.
        file: Its bytes.
        attributes: Text and numbers.
        arrays: By name.
        kinds: Kinds of the labels; empty without labels.
        blocks: The blocks of an archive; None: `codes` is among the arrays.
    """

    path: Path
    file: FileBytes
    attributes: Mapping[str, Any]
    arrays: Mapping[str, StoredArray]
    kinds: tuple[str, ...]
    blocks: StoredBytes | None

    def chunk(self, array: StoredArray, layer: int, column: int) -> npt.NDArray[Any]:
        """The values of a chunk, with those beyond the last row.

        Raises:
            RecordError: They are damaged, or cannot be read.
        """
        size = int(array.sizes[layer, column])
        try:
            packed = self.file.read(int(array.offsets[layer, column]), size)
            return unpack(packed, array.dtype, array.rows)
        except (DamagedError, OSError) as error:
            place = f"rows {layer * array.rows} to {(layer + 1) * array.rows - 1} of {array.name}"
            raise damaged(self.path, f"{place}, column {column}: {error}") from None

    def rows_of(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows of an array, of its own number of axes.

        Raises:
            RecordError: They are damaged, or cannot be read.
        """
        array = self.arrays[name]
        found = np.empty((stop - start, array.width), array.dtype)
        for layer in range(start // array.rows, -(-stop // array.rows)) if found.size else ():
            first, last = max(start, layer * array.rows), min(stop, (layer + 1) * array.rows)
            for column in range(array.width):
                values = self.chunk(array, layer, column)
                found[first - start : last - start, column] = values[first - layer * array.rows :][: last - first]
        return found.reshape(-1, *array.shape[1:])

    def whole(self, name: str) -> npt.NDArray[Any]:
        """All of an array.

        Raises:
            RecordError: It is damaged, or cannot be read.
        """
        return self.rows_of(name, 0, self.arrays[name].shape[0])


def read_structure(path: Path) -> Structure:
    """Look at a file.

    Raises:
        RecordError: It cannot be read, is not a latent file of this version, or not as one is written.
    """
    import h5py

    try:
        _check_is_file(path)
        opened = FileBytes(path)
    except _Refusal as refusal:
        raise unreadable(path, *refusal.args) from None
    except (OSError, ValueError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or str(error)
        raise unreadable(path, why, f"check the path, and {NAME_ONE}") from None
    window: _Window | None = None
    found: tuple[str, ...]
    try:
        window = _Window(opened)
        with h5py.File(window, "r") as file:
            return _parts(path, opened, file)
    except _Refusal as refusal:
        found = refusal.args
    # A damaged file makes h5py raise any of these.
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
        OverflowError,
    ) as error:
        found = (window and window.refusal) or (f"one that HDF5 cannot read ({str(error)[:200]})",)
    # Outside of the handlers: an error that remembers another one would keep h5py's objects alive with its traceback,
    # and a process that ends before they do crashes.
    raise unreadable(path, *found)


def unreadable(path: Path, found: str, remedy: str = _REMEDY) -> RecordError:
    """The error of a file that is none of ours."""
    return RecordError(
        f"{path} is not a latent file that can be read",
        expected=f"an HDF5 file of format {FORMAT!r}, version {VERSION}, as ngvae-tools writes it",
        found=found,
        remedy=remedy,
    )


def damaged(path: Path, where: str) -> RecordError:
    """The error of a file that is not what was written."""
    return RecordError(
        f"{path} is damaged",
        expected="the bytes that were written",
        found=where,
        remedy="restore it from a copy, or write it again with select-latents",
    )


def _check_is_file(path: Path) -> None:
    # To open a pipe would wait for somebody who writes to it.
    if not stat.S_ISREG(path.stat().st_mode):
        raise _Refusal("something that is no file", NAME_ONE)


class _Window(io.RawIOBase):
    """A file as HDF5 may see it: to read, only so much, and only what a latent file has."""

    def __init__(self, file: FileBytes) -> None:
        super().__init__()
        self._file = file
        self._gate = Gate()
        # Words alone: an exception here would be part of a circle that is never freed.
        self.refusal: tuple[str, ...] = ()
        self._position = self._reads = 0
        # What describes the chunks grows with the file; what HDF5 reads of it, too.
        self._bytes = _READ_BYTES + file.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._reads += 1
        self._bytes -= len(view)
        if self._reads > _READS or self._bytes < 0:
            self.refusal = ("one that makes HDF5 read without end",)
        if self.refusal:
            raise OSError(self.refusal[0])
        data = self._file.read(self._position, len(view))
        view[: len(data)] = data
        # HDF5 takes what lies beyond the end for zeros, and never looks at how much was read.
        view[len(data) :] = bytes(len(view) - len(data))
        try:
            self._gate.check(self._position, bytes(view))
        except GateError as error:
            self.refusal = error.args
            raise OSError(self.refusal[0]) from None
        self._position += len(data)
        return len(data)


def _parts(path: Path, opened: FileBytes, file: h5py.File) -> Structure:
    attributes = _attributes(file)

    def array(name: str, types: tuple[np.dtype[Any], ...] | str, axes: int = 1) -> StoredArray:
        return _array(opened, file, name, types, axes)

    arrays = {
        "identifiers": array("identifiers", "identifiers"),
        "dimensions": array("dimensions", _INTEGER),
        "metadata": array("metadata", "text"),
        **{name: array(name, _FLOAT) for name in ("scale", "offset", "posterior_variance", "fill")},
    }
    (n_rows,), (columns,) = arrays["identifiers"].shape, arrays["dimensions"].shape
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(("scale", "offset", "posterior_variance"), (columns,))
    expected["metadata"] = (1,)
    blocks = None
    if _exists(file, "packed"):
        blocks = _bytes(opened, file, "packed")
        for name, kind in (("packed_ends", "<i8"), ("packed_crc32", "<u4")):
            arrays[name] = array(name, (np.dtype(kind),))
    else:
        arrays["codes"] = array("codes", CODE_TYPES, 2)
        expected["codes"] = (n_rows, columns)
    kinds: tuple[str, ...] = ()
    if _exists(file, "labels"):
        arrays |= {"labels": array("labels", _FLOAT, 2), "factors": array("factors", "text")}
        kinds = tuple(_text(file["factors"], "kinds").split(","))
        expected |= {"labels": (n_rows, len(kinds)), "factors": (len(kinds),)}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise _Refusal(f"{name} of shape {arrays[name].shape} instead of {shape}")
    return Structure(path, opened, attributes, arrays, kinds, blocks)


def _attributes(file: h5py.File) -> dict[str, Any]:
    form = _text(file, "format")
    if form != FORMAT:
        raise _Refusal(f"format {form!r}")
    version = _number(file, "version")
    if version > VERSION:
        raise _Refusal(f"version {version:g}, which a newer ngvae-tools wrote", "install the newest ngvae-tools")
    if version != VERSION:
        raise _Refusal(f"version {version:g}, of before the format was settled")
    return {name: _text(file, name) for name in TEXT_ATTRIBUTES} | {"threshold": _number(file, "threshold")}


def _exists(file: h5py.File, name: str) -> bool:
    return bool(file.id.links.exists(name.encode()))


def _dataset(file: h5py.File, name: str) -> tuple[Any, Any]:
    """A data set's handle and creation properties; it lies in this file, as plain values."""
    import h5py

    if not _exists(file, name):
        raise _Refusal(f"no {name}")
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise _Refusal(f"{name} behind a link")
    found = h5py.h5o.open(file.id, name.encode())
    if not isinstance(found, h5py.h5d.DatasetID):
        raise _Refusal(f"{name}, which is no data set")
    creation = found.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count():
        raise _Refusal(f"{name} in other files")
    return found, creation


def _array(
    opened: FileBytes, file: h5py.File, name: str, types: tuple[np.dtype[Any], ...] | str, axes: int
) -> StoredArray:
    import h5py

    found, creation = _dataset(file, name)
    stored = found.get_type()
    if isinstance(types, str):
        fits = (
            isinstance(stored, h5py.h5t.TypeStringID) and not stored.is_variable_str() and stored.get_size() < MOST_TEXT
        )
        types = (np.dtype(f"S{stored.get_size()}"),) if fits else _INTEGER if types == "identifiers" else ()
    dtype = next((kind for kind in types if _same_type(stored, kind)), None)
    if dtype is None:
        raise _Refusal(f"{name} of another type than {' or '.join(str(kind) for kind in types) or 'text'}")
    shape = tuple(int(n) for n in found.shape)
    if len(shape) != axes:
        raise _Refusal(f"{name} of {len(shape)} axes instead of {axes}")
    if 0 in shape:
        nothing = np.zeros((0, 0), np.int64)
        return StoredArray(name, shape, dtype, max(min(CHUNK_ROWS, shape[0]), 1), nothing, nothing)
    rows = min(CHUNK_ROWS, shape[0])
    filters = [creation.get_filter(k) for k in range(creation.get_nfilters())]
    expected = [h5py.h5z.FILTER_DEFLATE] if dtype.itemsize == 1 else [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]
    if creation.get_layout() != h5py.h5d.CHUNKED or creation.get_chunk() != (rows, 1)[:axes]:
        raise _Refusal(f"{name} in other chunks than ({', '.join(map(str, (rows, 1)[:axes]))})")
    if [each[0] for each in filters] != expected or (len(filters) > 1 and filters[0][2] != (dtype.itemsize,)):
        raise _Refusal(f"{name} behind other filters than shuffle and deflate")
    counts = (-(-shape[0] // rows), shape[1] if axes > 1 else 1)
    # The first finds out without looking; to count them, HDF5 looks at all there might be.
    if counts[0] * counts[1] > opened.size // _LEAST_CHUNK or found.get_num_chunks() != counts[0] * counts[1]:
        raise _Refusal(f"{name} of shape {shape}, more than what {opened.size:,} bytes hold")
    offsets, sizes = _chunks(found, rows, counts)
    most = rows * dtype.itemsize
    if (offsets < 0).any() or (sizes > most + most // 64 + _SLACK).any() or (offsets + sizes > opened.size).any():
        raise _Refusal(f"{name} with chunks that are missing, too large or beyond the end of the file")
    order = np.argsort(offsets, axis=None)
    overlap = (offsets + sizes).flat[order[:-1]] > offsets.flat[order[1:]]
    # With both, an array takes no more memory than so many times the file.
    if overlap.any() or (sizes * _MOST_INFLATED + _SLACK < most).any():
        raise _Refusal(f"{name} with chunks that overlap, or are too small for {rows} rows")
    return StoredArray(name, shape, dtype, rows, offsets, sizes)


def _same_type(stored: Any, dtype: np.dtype[Any]) -> bool:
    import h5py

    if dtype.kind == "S":
        return True
    return bool(stored.equal(h5py.h5t.py_create(dtype)))


def _chunks(found: Any, rows: int, counts: tuple[int, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each chunk lies, -1 where it was never written, and its size."""
    offsets, sizes = np.full(counts, -1, np.int64), np.zeros(counts, np.int64)
    seen = 0

    def note(info: Any) -> bool | None:
        nonlocal seen
        seen += 1
        place = (info.chunk_offset[0] // rows, info.chunk_offset[1] if len(info.chunk_offset) > 1 else 0)
        inside = 0 <= place[0] < counts[0] and 0 <= place[1] < counts[1]
        # A damaged index may lead in circles.
        if seen > offsets.size or not inside or info.filter_mask or info.byte_offset is None:
            return True
        offsets[place], sizes[place] = min(info.byte_offset, 2**62), min(info.size, 2**62)
        return None

    if found.chunk_iter(note) is not None:
        offsets[...] = -1
    return offsets, sizes


def _bytes(opened: FileBytes, file: h5py.File, name: str) -> StoredBytes:
    import h5py

    found, creation = _dataset(file, name)
    if creation.get_layout() != h5py.h5d.CONTIGUOUS or not _same_type(found.get_type(), np.dtype("u1")):
        raise _Refusal(f"{name} that are not plain bytes")
    if len(found.shape) != 1:
        raise _Refusal(f"{name} of {len(found.shape)} axes")
    size, offset = int(found.shape[0]), found.get_offset()
    if size == 0:
        return StoredBytes(0, 0)
    if offset is None or offset + size > opened.size:
        raise _Refusal(f"{name} beyond the end of the file")
    return StoredBytes(int(offset), size)


def _attribute(place: Any, name: str, fits: Callable[[Any], bool]) -> Any:
    import h5py

    if not h5py.h5a.exists(place.id, name.encode()):
        raise _Refusal(f"no {name}")
    found = h5py.h5a.open(place.id, name.encode())
    if found.shape != () or not 0 < found.get_storage_size() <= _MOST_ATTRIBUTE or not fits(found.get_type()):
        raise _Refusal(f"{name} of another type or size")
    return place.attrs[name]


def _text(place: Any, name: str) -> str:
    import h5py

    value = _attribute(place, name, lambda kind: isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str())
    return (value if isinstance(value, bytes) else str(value).encode()).decode("utf-8", "surrogateescape")


def _number(place: Any, name: str) -> float:
    import h5py

    plain = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)
    value = float(_attribute(place, name, lambda kind: isinstance(kind, plain) and kind.get_size() <= 8))
    if not np.isfinite(value):
        raise _Refusal(f"{name} that is no number")
    return value
