"""Images in a column of a table, as Hugging Face's datasets keep them."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageShape, check_range, evenly_spaced
from ngvae_tools.datasets.columns import Values, class_names, factors_of, image_column, label_columns, values_of
from ngvae_tools.datasets.decode import UnusableImageError
from ngvae_tools.datasets.encoded import MAX_ENCODED, Encoded, EncodedImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import Factors

if TYPE_CHECKING:
    import numpy.typing as npt

FINGERPRINT_ROWS = 64

BATCH_BYTES = 32 * 2**20
"""Bytes of a column that are read together at most, where rows are not larger."""

_KEPT = 4 * BATCH_BYTES
_CURSORS = 4


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that can only be read from the first on.

    Attributes:
        file: Which file they lie in.
        place: Where in it.
        start: Number of the first row in the data set.
        rows: How many.
    """

    file: int
    place: int
    start: int
    rows: int


@dataclass(slots=True)
class _Cursor:
    """A part that is being read; `row` is what comes next."""

    stream: Generator[Any]
    row: int


class TableImages(EncodedImages):
    """Encoded images in a column, numbered by row; what differs is how files are cut into parts.

    Some 32 MiB of the column, or what a file cannot part (a page, a record batch), are read at a time, and 128 MiB at
    most are kept; rows of one part are reached by
    reading those before them. Files are read by one thread at a time, images decoded by several.

    A subclass calls `_take_schema` for each file, then `_settle` once, and gives `_stream` and `_columns`.

    Args:
        path: The file or folder, or its URL.
        image_shape: See `EncodedImages`.
        dtype: See `EncodedImages`.
        resize: See `EncodedImages`.

    Raises:
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["parquet", "arrow"]
    key: str

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None,
        dtype: npt.DTypeLike | None,
        resize: Resize | None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        self._parts: Sequence[Part] = ()
        self._failures: dict[int, tuple[int, str]] = {}
        self._labels: list[str] | None = None
        self._named: dict[str, tuple[str, ...]] = {}
        self._forget()

    @abstractmethod
    def _stream(self, part: Part) -> Generator[Any]:
        """The column's values of a part in order, as arrays of pyarrow; raises what pyarrow raises."""

    @abstractmethod
    def _columns(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """All values of columns, by name; None where they cannot be read."""

    def __len__(self) -> int:
        return self._length

    def factors(self) -> Factors | None:
        """Class labels, where all files have any, see `label_columns`."""
        return factors_of(self._columns(self._labels), self._named) if self._labels else None

    def identifiers(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Row numbers of a range."""
        check_range(start, stop, len(self))
        return np.arange(start, stop, dtype=np.int64)

    def fingerprint(self) -> str:
        """SHA-256 of the column's name, the number of rows, and the bytes of up to 64 evenly spaced ones.

        It misses a change in any other row, and stays when the rows are only packed in another way.
        """
        digest = hashlib.sha256(f"ngvae-tools {self.kind} 1\0{self.key}\0{len(self)}\0".encode())
        for number in evenly_spaced(len(self), FINGERPRINT_ROWS):
            (data,) = self._load(number, number + 1)
            digest.update(b"unreadable" if isinstance(data, UnusableImageError) else hashlib.sha256(data).digest())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the files and forget what was read; reading again opens them again."""
        with self._lock:
            for cursor in self._cursors.values():
                cursor.stream.close()
            self._cursors.clear()
            self._kept.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in {"_lock", "_cursors", "_kept"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def _take_schema(self, schema: Any, key: str | None, location: str) -> None:
        """Find the column of images in a file's schema, the one of the file before where there is one, and labels."""
        self.key = image_column(schema, key if self._labels is None else self.key, location)
        mine, named = label_columns(schema), class_names(schema)
        # A number that another file calls otherwise has no name.
        self._named = named if self._labels is None else dict(self._named.items() & named.items())
        self._labels = mine if self._labels is None else [name for name in self._labels if name in mine]

    def _settle(self, sizes: Sequence[tuple[int, int, int]], chunk_rows: int) -> None:
        """Take the parts, each as (file, place, rows), in order."""
        start = 0
        parts = []
        for file, place, rows in sizes:
            if rows:
                parts.append(Part(file, place, start, rows))
            start += rows
        if not parts:
            raise DatasetError(
                f"{self.key!r} in {self.location} holds no image",
                expected="at least one row",
                found="none",
                remedy="name another table",
            )
        self._parts, self._length, self.chunk_rows = tuple(parts), start, chunk_rows
        self._starts = np.array([part.start for part in parts], np.int64)

    def _name(self, number: int) -> str:
        return str(number)

    def _load(self, start: int, stop: int) -> Iterator[Encoded]:
        values: Values | None = None
        for row in range(start, stop):
            if values is None or not values.start <= row < values.stop:
                values = self._values(row)
            yield values.encoded(row, MAX_ENCODED)

    def _values(self, row: int) -> Values:
        if self._process != os.getpid():
            # A child process must use neither its parent's files nor a lock that a thread of the parent held.
            self._forget()
        with self._lock:
            for values in self._kept:
                if values.start <= row < values.stop:
                    return values
            number = int(np.searchsorted(self._starts, row, side="right")) - 1
            part = self._parts[number]
            if number not in self._failures or row < self._failures[number][0]:
                try:
                    return self._advance(number, part, row)
                except DatasetError:
                    raise
                except Exception as error:  # noqa: BLE001 (pyarrow's, Python's, and what a storage raises)
                    cursor = self._cursors.pop(number, None)
                    self._failures[number] = (part.start if cursor is None else cursor.row, _reason(error))
            first, reason = self._failures[number]
            return Values.failed(first, part.start + part.rows, reason)

    def _advance(self, number: int, part: Part, row: int) -> Values:
        """Read on in a part up to a row."""
        cursor = self._cursors.get(number)
        if cursor is None or cursor.row > row:
            if cursor is not None:
                cursor.stream.close()
            cursor = self._cursors[number] = _Cursor(self._stream(part), part.start)
        self._cursors.move_to_end(number)
        while len(self._cursors) > _CURSORS:
            self._cursors.popitem(last=False)[1].stream.close()
        values = None
        while cursor.row <= row:
            array = next(cursor.stream, None)
            if array is None:
                raise ValueError(f"the file has {cursor.row - part.start} rows where {part.rows} are stated")
            values = values_of(array, cursor.row, part.start + part.rows)
            cursor.row = values.stop
            self._kept.append(values)
            while len(self._kept) > 1 and sum(each.size for each in self._kept) > _KEPT:
                self._kept.popleft()
        if cursor.row >= part.start + part.rows:
            self._cursors.pop(number).stream.close()
        assert values is not None
        return values

    def _forget(self) -> None:
        self._lock = RLock()
        self._process = os.getpid()
        self._cursors: OrderedDict[int, _Cursor] = OrderedDict()
        self._kept: deque[Values] = deque()


def _reason(error: Exception) -> str:
    return f"cannot be read: {' '.join(str(error).split())[:200] or type(error).__name__}"
