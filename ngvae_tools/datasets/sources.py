"""One file as bytes at any offset, on this machine or on object storage."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar, cast

from ngvae_tools.datasets.inflating import TruncatedError
from ngvae_tools.datasets.places import Place
from ngvae_tools.datasets.range_file import RangeFile
from ngvae_tools.datasets.storage import Storage
from ngvae_tools.errors import DatasetError

T = TypeVar("T")

_CACHED = 64 * 2**20
_AT_A_TIME = 64


class Source(Protocol):
    """A file that several threads may read at the same time."""

    @property
    def location(self) -> str:
        """Where it lies, in words."""

    @property
    def size(self) -> int:
        """Its length in bytes. Raises `DatasetError`."""

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`. Raises `TruncatedError`, and `DatasetError` where the storage fails."""

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> Generator[bytes | TruncatedError]:
        """What `read` gives for each (offset, length)."""

    def open(self, block: int = 2**20) -> BinaryIO:
        """A file object of its own; `block` bytes are asked for at least where it is remote. Raises `DatasetError`."""


class _InRanges(ABC):
    """One range as the only one of many."""

    __slots__ = ()

    @abstractmethod
    def read_many(self, ranges: Sequence[tuple[int, int]]) -> Generator[bytes | TruncatedError]:
        """See `Source`."""

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`."""
        (data,) = self.read_many([(offset, length)])
        if isinstance(data, TruncatedError):
            raise data
        return data


@dataclass(frozen=True, slots=True)
class LocalFile(_InRanges):
    """A file on this machine.

    Attributes:
        path: The file.
    """

    path: Path

    @property
    def location(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise unreadable_file(self.location, error) from error

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> Generator[bytes | TruncatedError]:
        """What `read` gives for each (offset, length); the file is opened once."""
        try:
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            failure = TruncatedError(error.strerror or str(error))
            yield from [failure] * len(ranges)
            return
        try:
            for offset, length in ranges:
                yield _read_at(handle, offset, length)
        finally:
            os.close(handle)

    def open(self, block: int = 2**20) -> BinaryIO:  # noqa: ARG002 (of the protocol)
        """A buffered file object."""
        try:
            return self.path.open("rb")
        except OSError as error:
            raise unreadable_file(self.location, error) from error


@dataclass(frozen=True, slots=True)
class RemoteFile(_InRanges):
    """A file on object storage.

    Attributes:
        storage: Where it lies.
        path: Its path in there.
    """

    storage: Storage
    path: str

    @property
    def location(self) -> str:
        """The URL of the data set, and the path in it."""
        own = self.path.removeprefix(self.storage.root).strip("/")
        return self.storage.location if not own else f"{self.storage.location.rstrip('/')}/{own}"

    @property
    def size(self) -> int:
        """Its length in bytes."""
        size = self.storage.info(self.path).get("size")
        if size is None:
            raise DatasetError(
                f"{self.location} cannot be read",
                expected="a storage that says how large the file is",
                found="no size",
                remedy="copy the file here and name the copy",
            )
        return int(size)

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> Generator[bytes | TruncatedError]:
        """What `read` gives for each (offset, length), up to 64 MiB at the same time."""
        for part in batched(ranges, [length for _, length in ranges]):
            parts = [(self.path, offset, offset + length) for offset, length in part]
            for (offset, length), data in zip(part, self.storage.read_many(parts), strict=True):
                yield self._checked(data, offset, length)

    def open(self, block: int = 2**20) -> BinaryIO:
        """A `RangeFile`."""
        return cast("BinaryIO", RangeFile(self, block))

    def _checked(self, data: bytes | Exception, offset: int, length: int) -> bytes | TruncatedError:
        if isinstance(data, Exception):
            return TruncatedError(reason_of(data))
        if length == 0:
            return b""
        if len(data) > length:
            raise DatasetError(
                f"{self.location} cannot be read in parts",
                expected="a server that answers requests for a range of bytes",
                found=f"{len(data):,} bytes for {length:,}",
                remedy="copy the file here and name the copy",
            )
        if len(data) < length:
            return TruncatedError(f"the file ends after {offset + len(data):,} of {offset + length:,} bytes")
        return data


def source_of(place: Place) -> LocalFile | RemoteFile:
    """The file at a place. Raises `DatasetError` and `MissingDependencyError`."""
    if isinstance(place, Path):
        return LocalFile(place)
    storage = Storage(place)
    return RemoteFile(storage, storage.root)


def batched(items: Sequence[T], sizes: Sequence[int]) -> Iterator[Sequence[T]]:
    """Consecutive items, as many at a time as have 64 MiB together and are no more than 64."""
    start = total = 0
    for k, size in enumerate(sizes):
        if k > start and (total + size > _CACHED or k - start == _AT_A_TIME):
            yield items[start:k]
            start, total = k, 0
        total += size
    if start < len(items):
        yield items[start:]


def reason_of(error: Exception) -> str:
    """Why an object cannot be read, as a sentence fragment that follows its name."""
    if isinstance(error, FileNotFoundError):
        return "is not there any more"
    return f"cannot be opened: {getattr(error, 'strerror', None) or error or type(error).__name__}"


def unreadable_file(location: str, error: OSError) -> DatasetError:
    """The error of a file that cannot be opened."""
    return DatasetError(
        f"{location} cannot be opened",
        expected="a file that may be read",
        found="nothing there" if isinstance(error, FileNotFoundError) else error.strerror or str(error),
        remedy="check the path and its permissions",
    )


def _read_at(handle: int, offset: int, length: int) -> bytes | TruncatedError:
    parts = []
    done = 0
    try:
        # The handle is no one else's; pread would not exist on Windows.
        os.lseek(handle, offset, os.SEEK_SET)
        while done < length and (part := os.read(handle, length - done)):
            parts.append(part)
            done += len(part)
    except OSError as error:
        return TruncatedError(error.strerror or str(error))
    if done < length:
        return TruncatedError(f"the file ends after {offset + done:,} of {offset + length:,} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)
