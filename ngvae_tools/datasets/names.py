"""Many relative paths, sorted and packed: their bytes and eight more each."""

from __future__ import annotations

import heapq
import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

_SORTED_AT_ONCE = 1 << 14


class NameGatherer:
    """Collects names in any order; their sorted list never exists as separate objects.

    Names that wait are sorted by runs, joined by NUL, which no path holds, and deflated.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._runs: list[bytes] = []
        self._count = self._bytes = 0

    def add(self, name: bytes) -> None:
        """Take one name."""
        self._waiting.append(name)
        self._count += 1
        self._bytes += len(name)
        if len(self._waiting) == _SORTED_AT_ONCE:
            self._waiting.sort()
            self._runs.append(zlib.compress(b"\0".join(self._waiting), 1))
            self._waiting = []

    def packed(self) -> PackedNames:
        """All names, sorted by bytes."""
        ends = np.zeros(self._count + 1, np.int64)
        joined = bytearray(self._bytes)
        runs: list[Iterator[bytes]] = [_inflated(run) for run in self._runs]
        end = 0
        for number, name in enumerate(heapq.merge(*runs, sorted(self._waiting)), start=1):
            joined[end : (end := end + len(name))] = name
            ends[number] = end
        return PackedNames(joined, ends)


class PackedNames(Sequence[bytes]):
    """A sequence of names in one piece of memory.

    Args:
        joined: All names, one after the other.
        ends: int64[n + 1], 0 and where each name ends.
    """

    __slots__ = ("_ends", "_joined")

    def __init__(self, joined: bytes | bytearray, ends: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        self._joined = joined
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> bytes: ...

    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...

    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        return bytes(self._joined[self._ends[number] : self._ends[number + 1]])

    def __iter__(self) -> Iterator[bytes]:
        for start, end in itertools.pairwise(self._ends):
            yield bytes(self._joined[start:end])


def _inflated(run: bytes) -> Iterator[bytes]:
    """The names of a run, inflated piece by piece."""
    inflate = zlib.decompressobj()
    rest, waiting = b"", run
    while not inflate.eof:
        *names, rest = (rest + inflate.decompress(waiting, 1 << 14)).split(b"\0")
        yield from names
        waiting = inflate.unconsumed_tail
    yield rest
