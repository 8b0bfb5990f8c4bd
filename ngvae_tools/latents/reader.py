"""Reading a latent file: rows by number or identifier, all of it, or chunk by chunk."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OptionError, RecordError, UnknownIdentifierError
from ngvae_tools.factors import KINDS, Factors, are_codes
from ngvae_tools.latents.archive import check_archive_codec, unpack_block
from ngvae_tools.latents.coding import Codes
from ngvae_tools.latents.header import FILE_NAME, HeaderArrays, LatentHeader
from ngvae_tools.latents.packing import DamagedError
from ngvae_tools.latents.structure import Structure, damaged, read_structure, unreadable
from ngvae_tools.latents.tables import texts, to_pandas, to_xarray

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CACHE_BYTES = 64 * 2**20
"""Decoded chunks that are kept."""

CHUNK_BYTES = 2 * 2**20
"""Values that `LatentFile.chunks` gives at once, as float64, if one chunk takes less."""

_MOST = np.iinfo(np.int64).max

Values = npt.NDArray[np.floating]


def open_latents(
    path: str | os.PathLike[str], *, dtype: npt.DTypeLike = np.float32, cache_bytes: int = CACHE_BYTES
) -> LatentFile:
    """Open a latent file.

    Args:
        path: The file, or the output folder of select-latents.
        dtype: Type of the values that are returned: float32, as encoders give them, or float64, which holds the
            quantised values exactly.
        cache_bytes: Memory for decoded chunks.

    Raises:
        RecordError: It is not a latent file of this version, or damaged.

    Example:
        >>> latents = open_latents("OUT/latents.h5")  # doctest: +SKIP
        >>> latents[10:20].shape, latents.by_id("cats/17.png").shape  # doctest: +SKIP
        ((10, 6), (6,))
    """
    return LatentFile(path, dtype=dtype, cache_bytes=cache_bytes)


def latent_path(path: str | os.PathLike[str]) -> Path:
    """The latent file that `path` names: itself, or the one of an output folder of select-latents."""
    # Unlike that of `Path`, this finds no fault with names that are too long.
    return Path(path) / FILE_NAME if os.path.isdir(path) else Path(path)  # noqa: PTH112


@dataclass(frozen=True, slots=True)
class Storage:
    """What the parts of a latent file take, in bytes.

    Attributes:
        file: All of it.
        codes: The codes.
        identifiers: The identifiers.
        labels: The labels.
        bits: Bits that a value of each kept dimension takes, over all positions; 0 without rows.
    """

    file: int
    codes: int
    identifiers: int
    labels: int
    bits: tuple[float, ...]


class LatentFile:
    """An open latent file: a sequence of N rows of d values, which may be read by several threads.

    `file[3]` is a row, `file[10:20]`, `file[[5, 1]]` and `file[mask]` are arrays of rows, `file[10:20, 0]` is one
    column of rows; all as numpy would give them. It can be pickled, and opens the file again where it arrives.

    Args:
        path: The file, or the output folder of select-latents.
        dtype: Type of the values.
        cache_bytes: Memory for decoded chunks.

    Attributes:
        path: The file.
        header: What it says of itself.
        dtype: Type of the values.

    Raises:
        RecordError: It is not a latent file of this version, or damaged.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, dtype: npt.DTypeLike = np.float32, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self.path = latent_path(path)
        self.dtype = np.dtype(dtype)
        if self.dtype not in {np.dtype(np.float32), np.dtype(np.float64)}:
            raise OptionError(
                "the type of values cannot be used", expected="float32 or float64", found=str(dtype), remedy="pass one"
            )
        self._structure = read_structure(self.path)
        self.header = _header(self._structure)
        if self.header.codec == "archive":
            check_archive_codec()
            self._ends = self._archive_index("packed_ends")
            self._checksums = self._archive_index("packed_crc32")
            blocks = self._structure.blocks
            steps = np.diff(self._ends, prepend=0)
            if blocks is None or (steps <= 0).any() or (len(steps) and self._ends[-1] != blocks.size):
                raise unreadable(self.path, "blocks that are empty, overlap or do not fill their place")
        self._scale, self._offset = self.header.coding.scale, self.header.coding.offset
        self._cache = _Cache(cache_bytes)

    def __len__(self) -> int:
        return self.header.n_rows

    @property
    def shape(self) -> tuple[int, int]:
        """(N, d)."""
        return len(self), self.header.origin.columns

    @property
    def dimensions(self) -> npt.NDArray[np.int64]:
        """Latent dimension of each column, shape (d,)."""
        return np.tile(np.array(self.header.origin.dimensions, np.int64), self.header.origin.positions)

    @property
    def posterior_variance(self) -> npt.NDArray[np.float64]:
        """Mean posterior variance of each column, shape (d,)."""
        return np.tile(self.header.origin.posterior_variance, self.header.origin.positions)

    @cached_property
    def identifiers(self) -> npt.NDArray[Any]:
        """Identifiers of all rows: relative paths as bytes, or row numbers; shape (N,)."""
        return self._structure.whole("identifiers")

    @cached_property
    def labels(self) -> Factors | None:
        """Known factors of the images, a row each; None where there are none."""
        if not self._structure.kinds:
            return None
        names, kinds = zip(*self.header.factors, strict=True)
        return Factors(names, self.labels_of(0, len(self)), kinds, (True,) * len(names), self.header.classes)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """What the classes of labels that were text are called, by name of the label: code i is name i."""
        named = zip(self.header.factors, self.header.classes, strict=True)
        return {name: classes for (name, _), classes in named if classes}

    def __getitem__(self, key: Any) -> Any:
        rows, columns = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        if isinstance(rows, int | np.integer) and not isinstance(rows, bool | np.bool_):
            return self._row(int(rows))[columns]
        if isinstance(columns, int | np.integer):
            return self._rows(rows, np.arange(self.shape[1])[columns].reshape(1))[:, 0]
        return self._rows(rows, np.arange(self.shape[1])[columns])

    def __iter__(self) -> Iterator[Values]:
        for values, _ in self.chunks():
            yield from values

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Values:
        if copy is False:
            raise ValueError("the values are decoded from a file, which makes a copy")
        return self.to_numpy() if dtype is None else self.to_numpy().astype(dtype)

    def chunks(self, rows: int | None = None) -> Iterator[tuple[Values, npt.NDArray[Any]]]:
        """Values (n, d) and identifiers (n,) of consecutive rows, at most `rows` at a time; memory stays bounded.

        Raises:
            RecordError: The file is damaged.
        """
        size = self.header.chunk_rows
        rows = rows or max(size, CHUNK_BYTES // (max(self.shape[1], 1) * 8 * size) * size)
        for start in range(0, len(self), rows):
            stop = min(start + rows, len(self))
            yield self[start:stop], self._structure.rows_of("identifiers", start, stop)

    def to_numpy(self) -> Values:
        """All values, shape (N, d).

        Raises:
            RecordError: The file is damaged.
        """
        found: Values = self[:]
        return found

    def to_xarray(self) -> xr.Dataset:
        """All values as an xarray Dataset; see `ngvae_tools.latents.tables.to_xarray`.

        Raises:
            MissingDependencyError: xarray is not installed.
            RecordError: The file is damaged.
        """
        return to_xarray(self)

    def to_pandas(self) -> pd.DataFrame:
        """All values as a pandas DataFrame; see `ngvae_tools.latents.tables.to_pandas`.

        Raises:
            MissingDependencyError: pandas is not installed.
            RecordError: The file is damaged.
        """
        return to_pandas(self)

    def by_id(self, identifier: Any) -> Values:
        """The row of an identifier, shape (d,), or rows of several, shape (n, d).

        Args:
            identifier: A relative path as text or bytes, a row number of the data set, or a list of them.

        Raises:
            UnknownIdentifierError: There is no such image.
        """
        found: Values = self[self.row_of(identifier)]
        return found

    def row_of(self, identifier: Any) -> Any:
        """The row number of an identifier, or an array of those of several.

        Raises:
            UnknownIdentifierError: There is no such image.
        """
        if isinstance(identifier, str | bytes | os.PathLike | int | np.integer):
            return self._row_of(identifier)
        return np.array([self._row_of(each) for each in identifier], np.int64)

    def identifiers_of(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Identifiers of the rows start <= row < stop, shape (n,), read now and not kept.

        Raises:
            RecordError: The file is damaged.
        """
        return self._structure.rows_of("identifiers", start, stop)

    def labels_of(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Labels of the rows start <= row < stop, shape (n, F), read now and not kept.

        Raises:
            RecordError: The file is damaged.
        """
        if not self._structure.kinds:
            return np.empty((stop - start, 0))
        labels = self._structure.rows_of("labels", start, stop)
        for k, names in enumerate(self.header.classes):
            if names and not are_codes(labels[:, k], len(names)):
                where = f"rows {start} to {stop - 1} of labels, column {k}: codes that have no name"
                raise damaged(self.path, where)
        return labels

    def codes(self, start: int, stop: int) -> Codes:
        """Codes of rows, shape (n, d), as `codes` of the file holds them."""
        found = np.empty((max(stop - start, 0), self.shape[1]), self.header.coding.dtype)
        for into, layer, within in self._by_chunk(range(start, stop)):
            for column in range(self.shape[1]):
                found[into, column] = self._chunk(layer, column)[within]
        return found

    def verify(self) -> None:
        """Read everything, and compare the codes with the hash that was kept of them.

        Raises:
            RecordError: Something is damaged.
        """
        digest = hashlib.sha256()
        step = self.header.chunk_rows
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            digest.update(self.codes(start, stop).data)
            self._structure.rows_of("identifiers", start, stop)
            self.labels_of(start, stop)
        if digest.hexdigest() != self.header.codes_sha256:
            raise damaged(self.path, f"codes with the SHA-256 {digest.hexdigest()}")

    def storage(self) -> Storage:
        """What its parts take."""
        arrays, columns = self._structure.arrays, self.shape[1]
        if self._structure.blocks is None:
            sizes = arrays["codes"].sizes
        else:
            sizes = np.diff(self._ends, prepend=0).reshape(-1, max(columns, 1))
        by_column = sizes.sum(axis=0) if sizes.size else np.zeros(columns, np.int64)
        positions = self.header.origin.positions
        by_dimension = by_column.reshape(positions, -1).sum(axis=0) if columns else np.zeros(0, np.int64)
        values = max(len(self) * positions, 1)
        return Storage(
            file=self._structure.file.size,
            codes=int(by_column.sum()),
            identifiers=int(arrays["identifiers"].sizes.sum()),
            labels=int(arrays["labels"].sizes.sum()) if "labels" in arrays else 0,
            bits=tuple((8 * by_dimension / values).tolist()),
        )

    def close(self) -> None:
        """Let go of the file."""
        self._cache.clear()
        self.__dict__.pop("_structure", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LatentFile({str(self.path)!r}, {len(self):,} rows of {self.shape[1]} values)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (self.path, self.dtype, self._cache.room, self.header.codes_sha256)

    def __getattr__(self, name: str) -> Any:
        if name == "_structure":
            raise ValueError(f"{self.path} is closed")
        raise AttributeError(f"LatentFile has no attribute {name!r}")

    def _row(self, row: int) -> Values:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        layer, place = divmod(row % len(self), self.header.chunk_rows)
        codes = np.array([self._chunk(layer, k)[place] for k in range(len(self._scale))], self.header.coding.dtype)
        values: Values = (self._offset + self._scale * codes).astype(self.dtype)
        return values

    def _rows(self, rows: Any, columns: npt.NDArray[np.integer]) -> Values:
        index = _index(rows, len(self))
        found = np.empty((len(index), len(columns)), self.dtype)
        for into, layer, within in self._by_chunk(index):
            for place, column in enumerate(columns.tolist()):
                codes = self._chunk(layer, column)[within]
                found[into, place] = self._offset[column] + self._scale[column] * codes
        return found

    def _by_chunk(self, index: range | npt.NDArray[np.int64]) -> Iterator[tuple[Any, int, Any]]:
        """Which of the wanted rows lie in one chunk, its number, and where they lie in it."""
        size = self.header.chunk_rows
        if isinstance(index, range) and index.step == 1:
            for layer in range(index.start // size, -(-index.stop // size)) if index else ():
                first, last = max(index.start, layer * size), min(index.stop, (layer + 1) * size)
                yield (
                    slice(first - index.start, last - index.start),
                    layer,
                    slice(first - layer * size, last - layer * size),
                )
            return
        layers, places = np.divmod(np.asarray(index, np.int64), size)
        if not len(layers):
            return
        order = np.argsort(layers, kind="stable")
        found, starts = np.unique(layers[order], return_index=True)
        for layer, wanted in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            yield wanted, layer, places[wanted]

    def _chunk(self, layer: int, column: int) -> Codes:
        """Codes of the rows of a chunk in one column; kept for the reads that follow."""
        kept = self._cache.get((layer, column))
        if kept is None:
            kept = self._decoded(layer, column)
            self._cache.put((layer, column), kept)
        return kept

    def _decoded(self, layer: int, column: int) -> Codes:
        structure = self._structure
        if structure.blocks is None:
            return structure.chunk(structure.arrays["codes"], layer, column)
        number = layer * self.shape[1] + column
        start, stop = (int(self._ends[k - 1]) if k else 0 for k in (number, number + 1))
        size = self.header.chunk_rows
        rows = min(size, len(self) - layer * size)
        try:
            packed = structure.file.read(structure.blocks.offset + start, stop - start)
            return unpack_block(packed, int(self._checksums[number]), self.header.coding.dtype, rows)
        except (DamagedError, OSError) as error:
            raise damaged(
                self.path, f"rows {layer * size} to {layer * size + rows - 1}, column {column}: {error}"
            ) from None

    def _archive_index(self, name: str) -> npt.NDArray[Any]:
        """What lies beside the blocks of an archive, one number each."""
        found = self._structure.whole(name)
        if found.shape != (-(-len(self) // self.header.chunk_rows) * self.shape[1],):
            raise unreadable(self.path, f"{len(found)} numbers of {name} for {len(self)} rows")
        return found

    @cached_property
    def _order(self) -> npt.NDArray[np.int64] | None:
        """Rows in the order of their identifiers; None: they are in it."""
        names = self.identifiers
        return None if bool((names[:-1] <= names[1:]).all()) else np.argsort(names, kind="stable")

    def _row_of(self, identifier: Any) -> int:
        names = self.identifiers
        numbers = names.dtype.kind == "i"
        wanted = _number_of(identifier) if numbers else _name_of(identifier)
        if wanted is not None:
            place = int(np.searchsorted(names, np.array(wanted), sorter=self._order))
            if place < len(names):
                row = place if self._order is None else int(self._order[place])
                if names[row] == wanted:
                    return row
        example = f", such as {texts(names[:1])[0]}" if len(names) else ""
        raise UnknownIdentifierError(
            f"{self.path} has no image {identifier!r}",
            expected=f"a {'row number' if numbers else 'relative path'} of the data set{example}",
            found="none of that name",
            remedy="look at its identifiers with: ngvae-tools latents export",
        )


def _number_of(identifier: Any) -> int | None:
    """A row number; None: it cannot be one."""
    if isinstance(identifier, str) and identifier.isdecimal() and len(identifier) < len(str(_MOST)):
        return int(identifier)
    return int(identifier) if isinstance(identifier, int | np.integer) and 0 <= identifier <= _MOST else None


def _name_of(identifier: Any) -> bytes | None:
    """The bytes of a path; None: it cannot be one."""
    try:
        return os.fsencode(identifier)
    except (TypeError, UnicodeEncodeError):
        return None


class _Cache:
    """Decoded chunks: those that were read last, as many as there is room for."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._kept: OrderedDict[tuple[int, int], Codes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: tuple[int, int]) -> Codes | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: tuple[int, int], codes: Codes) -> None:
        if codes.nbytes > self.room:
            return
        with self._lock:
            if key not in self._kept:
                self._kept[key] = codes
                self._bytes += codes.nbytes
            while self._bytes > self.room:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0


def _open_again(path: Path, dtype: np.dtype[Any], cache_bytes: int, codes_sha256: str) -> LatentFile:
    file = LatentFile(path, dtype=dtype, cache_bytes=cache_bytes)
    if file.header.codes_sha256 != codes_sha256:
        raise RecordError(
            f"{path} is another latent file than the one that was sent",
            expected=f"codes with the SHA-256 {codes_sha256}",
            found=file.header.codes_sha256,
            remedy="leave a file in its place while other processes use it",
        )
    return file


def _index(rows: Any, count: int) -> range | npt.NDArray[np.int64]:
    """The rows that a key names, each at least 0.

    Raises:
        IndexError: The key is none, or names a row that there is not.
    """
    if isinstance(rows, slice):
        return range(*rows.indices(count))
    index = np.asarray(rows)
    if index.dtype == np.bool_:
        if index.shape != (count,):
            raise IndexError(f"a mask of shape {index.shape} for {count} rows")
        return np.flatnonzero(index)
    if index.ndim != 1 or not (index.size == 0 or index.dtype.kind in "iu"):
        raise IndexError("rows are named by a whole number, a slice, or a list of either whole numbers or truth values")
    index = index.astype(np.int64)
    if index.size and not -count <= index.min() <= index.max() < count:
        raise IndexError(f"rows from {index.min()} to {index.max()} of {count}")
    return np.where(index < 0, index + count, index)


def _header(structure: Structure) -> LatentHeader:
    names = ("dimensions", "scale", "offset", "posterior_variance", "fill")
    archived = structure.blocks is not None
    try:
        factors: tuple[tuple[str, str], ...] = ()
        if structure.kinds:
            factors = tuple(
                (name.decode("utf-8", "surrogateescape"), kind)
                for name, kind in zip(structure.whole("factors"), structure.kinds, strict=True)
            )
            if not set(structure.kinds) <= set(KINDS):
                raise ValueError(f"labels of the kinds {structure.kinds}")  # noqa: TRY301
        n_rows = structure.arrays["identifiers"].shape[0]
        arrays = HeaderArrays(n_rows=n_rows, factors=factors, **{name: structure.whole(name) for name in names})
        metadata = structure.whole("metadata")[0].decode()
        header = LatentHeader.parse({**structure.attributes, "metadata": metadata}, arrays)
        if archived != (header.codec == "archive"):
            raise ValueError(f"the codec {header.codec}, but other data sets")  # noqa: TRY301
        codes = structure.arrays.get("codes")
        if codes is not None and (codes.dtype, codes.rows) != (header.coding.dtype, header.chunk_rows):
            raise ValueError(f"codes of another type or chunk than {header.coding.dtype}, {header.chunk_rows} rows")  # noqa: TRY301
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise unreadable(structure.path, f"one that contradicts itself ({str(error)[:200]})") from None
    return header
