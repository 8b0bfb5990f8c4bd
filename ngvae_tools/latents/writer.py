"""Writing a latent file: packed chunks of codes, and everything needed to read them without this package.

Datasets, N rows of d columns, K latent dimensions, F labels:

- `codes` (N, d): value = offset + scale * code; uint8, uint16 or uint32, or float32 where nothing was rounded.
- `scale`, `offset`, `dimensions`, `posterior_variance` (d,).
- `fill` (K,): the values that stand for the dimensions that are not kept.
- `identifiers` (N,): relative paths as bytes of fixed length, or row numbers.
- `factors` (F,), `labels` (N, F), where there are any.
- `metadata` (1,): all else, as JSON; `classes` in it is what the codes in each label are called.

Each is cut into chunks of up to 4,096 rows of one column and deflated, so that every flipped bit is found. An archive
has, in place of `codes`, the blocks `packed` of 65,536 rows of one column, where each ends (`packed_ends`) and its
checksum (`packed_crc32`).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ngvae_tools.factors import ClassNames
from ngvae_tools.files import DeferringFile, deferring_errors
from ngvae_tools.latents.archive import check_archive_codec, pack_block
from ngvae_tools.latents.census import Census
from ngvae_tools.latents.coding import Coding
from ngvae_tools.latents.grid import Array, Grid
from ngvae_tools.latents.header import ARCHIVE_ROWS, CHUNK_ROWS, FORMAT, VERSION, Codec, LatentHeader, LatentOrigin
from ngvae_tools.latents.packing import pack

ROWS_AT_ONCE = 256
"""Rows that are coded together, whatever blocks they come in, so that sums of errors do not depend on those."""

TEXT = "utf-8"

_FLOAT = np.dtype("<f8")
_META_BLOCK = 512
_COPIED_AT_ONCE = 2**20
_BLOCK_BYTES = 2**28

_AXES = {
    "codes": ("identifiers", "dimensions"),
    "labels": ("identifiers", "factors"),
    **dict.fromkeys(
        ("scale", "offset", "shift", "posterior_variance", "max_error", "mean_squared_error", "entropy"),
        ("dimensions",),
    ),
}
"""Which dimension scale belongs to each axis."""


class Block(NamedTuple):
    """Consecutive rows.

    Attributes:
        values: Latents, shape (n, d).
        identifiers: Row numbers, or bytes, shape (n,).
        labels: Values of the labels, shape (n, F); None without labels.
    """

    values: npt.NDArray[np.floating]
    identifiers: npt.NDArray[Any]
    labels: Array | None = None


Rows = Callable[[], Iterable[Block]]
"""All rows in order, from the start at every call."""


@dataclass(frozen=True, slots=True)
class RowsShape:
    """How many rows there are, and what holds their identifiers and labels.

    Attributes:
        n_rows: Number N of rows.
        identifier_type: int64, or bytes of the length of the longest identifier.
        factors: Name and kind of each label; empty without labels.
        classes: The names of each label's classes; empty: all are numbers.
    """

    n_rows: int
    identifier_type: np.dtype[Any]
    factors: tuple[tuple[str, str], ...] = ()
    classes: tuple[ClassNames, ...] = ()


class Errors(NamedTuple):
    """Errors of rows that are not the encoder's own any more, each a value a kept dimension."""

    max_error: Array
    mean_squared_error: Array


def write_latents(
    path: Path,
    rows: Rows,
    shape: RowsShape,
    origin: LatentOrigin,
    *,
    grid: Grid | None,
    codec: Codec = "deflate",
    errors: Errors | None = None,
) -> LatentHeader:
    """Write a latent file; the caller renames it when this returns.

    Args:
        path: File to write.
        rows: All rows; they are gone through twice where they are quantised.
        shape: How many they are.
        origin: Where they come from.
        grid: Steps of the kept dimensions; None: float32, nothing is rounded.
        codec: `deflate`, which every HDF5 reader opens, or `archive`, which is denser and only this package's.
        errors: The errors that the file states; those that are made here by default.

    Returns:
        The header that the file has.

    Raises:
        OSError: The disk refused it.
        OutputError: The values cannot be quantised.
        MissingDependencyError: The codec is not installed.
        ValueError: There are more or fewer rows than announced.
    """
    if codec == "archive":
        check_archive_codec()
    kept = len(origin.dimensions)
    census = Census(kept)
    if grid is None:
        coding = Coding.lossless(kept)
    else:
        for block in rows():
            census.add(grid.numbers(block.values.reshape(len(block.values) * origin.positions, kept)))
        chunk_rows = min(CHUNK_ROWS, max(shape.n_rows, 1))
        coding = Coding.of(grid, census, chunk_rows=chunk_rows, shifted=codec == "deflate")
    coding = coding.tiled(origin.positions)
    entropy = None if grid is None else census.entropy()
    with deferring_errors(path) as sink, _new_file(sink) as file:
        codes = _Codes(file, shape.n_rows, coding, origin.positions, codec, path.parent)
        names = _stored(file, "identifiers", (shape.n_rows,), shape.identifier_type)
        labels = _stored(file, "labels", (shape.n_rows, len(shape.factors)), _FLOAT) if shape.factors else None
        for block in _aligned(rows(), shape, origin.columns):
            codes.add(block.values)
            names.add(block.identifiers[:, None])
            if labels is not None and block.labels is not None:
                labels.add(block.labels)
            sink.check()
        for each in (names, labels):
            if each is not None:
                each.finish()
        made = Errors(codes.max_error, codes.squared_error / max(shape.n_rows * origin.positions, 1))
        header = LatentHeader(
            origin=origin,
            n_rows=shape.n_rows,
            coding=coding,
            codec=codec,
            chunk_rows=codes.chunk_rows,
            codes_sha256=codes.finish(),
            max_error=(errors or made).max_error,
            mean_squared_error=(errors or made).mean_squared_error,
            entropy=entropy,
            factors=shape.factors,
            classes=shape.classes or (None,) * len(shape.factors),
        )
        _describe(file, header)
        sink.check()
    return header


class _Gathered:
    """Collects rows, and hands on as many of them as make a chunk."""

    def __init__(
        self, rows: int, width: int, dtype: np.dtype[Any], put: Callable[[int, npt.NDArray[Any]], None]
    ) -> None:
        self._buffer = np.empty((rows, width), dtype)
        self._put = put
        self._filled = self._chunks = 0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Take rows (n, width), whose type must fit without loss."""
        start = 0
        while start < len(values):
            taken = min(len(self._buffer) - self._filled, len(values) - start)
            # "safe" refuses identifiers that would be cut.
            np.copyto(self._buffer[self._filled : self._filled + taken], values[start : start + taken], casting="safe")
            start, self._filled = start + taken, self._filled + taken
            if self._filled == len(self._buffer):
                self.finish()

    def finish(self) -> None:
        """Hand on what there is."""
        if self._filled:
            self._put(self._chunks, self._buffer[: self._filled])
            self._chunks, self._filled = self._chunks + 1, 0


class _Codes:
    """Codes on their way into the file, and the errors that they make."""

    def __init__(self, file: Any, n_rows: int, coding: Coding, positions: int, codec: Codec, folder: Path) -> None:
        width, kept = len(coding.step), len(coding.step) // positions
        self.max_error, self.squared_error = np.zeros(kept), np.zeros(kept)
        self._coding, self._positions = coding, positions
        self._digest = hashlib.sha256()
        self._archive = _Archive(file, folder) if codec == "archive" else None
        self.chunk_rows = max(min(CHUNK_ROWS, n_rows), 1)
        if self._archive is None:
            self._rows = _stored(file, "codes", (n_rows, width), coding.dtype)
        else:
            self.chunk_rows = _block_rows(coding, n_rows)
            self._rows = _Gathered(self.chunk_rows, width, coding.dtype, self._archive.put)

    def add(self, values: npt.NDArray[np.floating]) -> None:
        codes = self._coding.encode(values)
        decoded = self._coding.decode(codes)
        error = np.abs(values - decoded).reshape(len(values) * self._positions, len(self.max_error))
        # Rounded to float32 once more, as most will read them.
        single = np.abs(values - decoded.astype(np.float32)).reshape(error.shape)
        self.max_error = np.maximum(self.max_error, np.maximum(error, single).max(axis=0, initial=0.0))
        self.squared_error += (error * error).sum(axis=0)
        self._digest.update(np.ascontiguousarray(codes).data)
        self._rows.add(codes)

    def finish(self) -> str:
        """End the codes; their SHA-256."""
        self._rows.finish()
        if self._archive is not None:
            self._archive.finish()
        return self._digest.hexdigest()


class _Archive:
    """Blocks of an archive: kept in a file without a name until it is known how long they are together."""

    def __init__(self, file: Any, folder: Path) -> None:
        self._file = file
        self._blocks = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this
        self._ends: list[int] = []
        self._checksums: list[int] = []

    def put(self, _: int, values: npt.NDArray[Any]) -> None:
        """Pack each column of a block."""
        for column in values.T:
            packed, checksum = pack_block(column)
            self._blocks.write(packed)
            self._ends.append(self._blocks.tell())
            self._checksums.append(checksum)

    def finish(self) -> None:
        """Write all blocks, and where they are."""
        self._blocks.seek(0)
        packed = self._file.create_dataset(
            "packed", (self._ends[-1] if self._ends else 0,), np.uint8, track_times=False
        )
        start = 0
        while part := self._blocks.read(_COPIED_AT_ONCE):
            packed[start : start + len(part)] = np.frombuffer(part, np.uint8)
            start += len(part)
        self._blocks.close()
        for name, values, dtype in (("packed_ends", self._ends, "<i8"), ("packed_crc32", self._checksums, "<u4")):
            _write_array(self._file, name, np.array(values, dtype))


def _block_rows(coding: Coding, n_rows: int) -> int:
    """Rows of a block of an archive: fewer where there are many columns, so that memory stays bounded."""
    width = max(len(coding.step), 1)
    room = _BLOCK_BYTES // (width * coding.dtype.itemsize) // CHUNK_ROWS * CHUNK_ROWS
    return max(min(ARCHIVE_ROWS, max(room, CHUNK_ROWS), n_rows), 1)


def _new_file(sink: DeferringFile) -> Any:
    import h5py

    # One version of the layout, whatever HDF5 is installed, in which all that describes the data has checksums.
    return h5py.File(sink, "w", libver=("v110", "v110"), meta_block_size=_META_BLOCK)


def _stored(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Gathered:
    """A data set in chunks of rows of one column, and what collects its rows."""
    import h5py

    width = shape[1] if len(shape) > 1 else 1
    rows = min(CHUNK_ROWS, shape[0])
    if not (rows and width):
        file.create_dataset(name, shape, dtype, track_times=False)
        return _Gathered(1, width, dtype, _nothing)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((rows, 1)[: len(shape)])
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    if dtype.itemsize > 1:
        creation.set_shuffle()
    creation.set_deflate(1)
    kind = h5py.h5t.py_create(dtype, logical=True)
    made = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), creation)

    def put(layer: int, values: npt.NDArray[Any]) -> None:
        if len(values) < rows:
            # What is beyond the last row repeats it, and takes next to nothing.
            values = np.concatenate([values, np.repeat(values[-1:], rows - len(values), axis=0)])
        for column in range(width):
            made.write_direct_chunk((layer * rows, column)[: len(shape)], pack(values[:, column]))

    return _Gathered(rows, width, dtype, put)


def _nothing(_: int, __: npt.NDArray[Any]) -> None:
    """What becomes of rows without columns."""


def _write_array(file: Any, name: str, values: npt.NDArray[Any]) -> Any:
    """A small array, in chunks like the others."""
    rows = _stored(file, name, values.shape, values.dtype)
    rows.add(values[:, None])
    rows.finish()
    return file[name]


def _describe(file: Any, header: LatentHeader) -> None:
    """Everything but the rows."""
    origin, coding = header.origin, header.coding
    columns, places = origin.columns, origin.positions
    scales = {
        "dimensions": _write_array(file, "dimensions", np.tile(np.array(origin.dimensions, "<i8"), places)),
        "fill": _write_array(file, "fill", origin.fill.astype(_FLOAT)),
        "identifiers": file["identifiers"],
    }
    for name, values in (
        ("scale", coding.scale),
        ("offset", coding.offset),
        ("posterior_variance", np.tile(origin.posterior_variance, places)),
    ):
        assert values.shape == (columns,), (name, values.shape)
        _write_array(file, name, values.astype(_FLOAT))
    # As an attribute it would have no checksum: HDF5 keeps attributes of more than 64 KiB where there is none.
    scales["metadata"] = _write_array(file, "metadata", np.array([header.metadata().encode(TEXT)], np.bytes_))
    if header.factors:
        names = np.array([name.encode(TEXT, "surrogateescape") for name, _ in header.factors], np.bytes_)
        scales["factors"] = _write_array(file, "factors", names)
        _write_text(file["factors"], "kinds", ",".join(kind for _, kind in header.factors))
    if header.codec != "archive":
        # They take some 5 kB, and nothing but this package reads an archive.
        _attach(file, scales)
    file.attrs["version"] = VERSION
    file.attrs["threshold"] = origin.threshold
    for name, text in (
        ("format", FORMAT),
        ("family", origin.family),
        ("rule", origin.rule),
        ("encoder_sha256", origin.encoder_sha256),
        ("codes_sha256", header.codes_sha256),
    ):
        _write_text(file, name, text)


def _attach(file: Any, scales: dict[str, Any]) -> None:
    """Name the axes, as netCDF's readers need it."""
    for name, scale in scales.items():
        scale.make_scale(name)
    for name, data in file.items():
        for axis, scale in enumerate(_AXES.get(name, ())):
            data.dims[axis].attach_scale(scales[scale])


def _write_text(place: Any, name: str, text: str) -> None:
    """Text of fixed length: HDF5 keeps that of variable length where no checksum guards it."""
    import h5py

    encoded = text.encode(TEXT, "surrogateescape")
    place.attrs.create(name, encoded, dtype=h5py.string_dtype(TEXT, max(len(encoded), 1)))


def _aligned(blocks: Iterable[Block], shape: RowsShape, columns: int) -> Iterator[Block]:
    """The same rows in blocks of `ROWS_AT_ONCE`, float64; what is yielded is valid until the next step."""
    values = np.empty((ROWS_AT_ONCE, columns))
    names = np.empty(ROWS_AT_ONCE, shape.identifier_type)
    labels = np.empty((ROWS_AT_ONCE, len(shape.factors)))
    filled = seen = 0
    for block in blocks:
        start = 0
        seen += len(block.values)
        if seen > shape.n_rows:
            raise ValueError(f"blocks hold more than the {shape.n_rows} rows that were announced")
        while start < len(block.values):
            taken = min(ROWS_AT_ONCE - filled, len(block.values) - start)
            into, part = slice(filled, filled + taken), slice(start, start + taken)
            values[into] = block.values[part]
            np.copyto(names[into], block.identifiers[part], casting="safe")
            if block.labels is not None:
                labels[into] = block.labels[part]
            start, filled = start + taken, filled + taken
            if filled == ROWS_AT_ONCE:
                yield Block(values, names, labels)
                filled = 0
    if filled:
        yield Block(values[:filled], names[:filled], labels[:filled])
    if seen != shape.n_rows:
        raise ValueError(f"blocks hold {seen} rows, {shape.n_rows} were announced")
