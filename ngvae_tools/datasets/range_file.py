"""A file object over ranges of bytes."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ngvae_tools.datasets.inflating import TruncatedError

if TYPE_CHECKING:
    from ngvae_tools.datasets.sources import Source

_CACHED = 64 * 2**20


class RangeFile(io.RawIOBase):
    """A file object over ranges of bytes that keeps the last 64 MiB. Not for several threads at once.

    Args:
        source: The file.
        block: Bytes of one request at least.
    """

    def __init__(self, source: Source, block: int) -> None:
        self._source, self._block, self._size, self._place = source, block, source.size, 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def __repr__(self) -> str:
        # What h5py calls the file.
        return self._source.location

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(start + offset, 0)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, less only at the end of the file."""
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._place)
        if length <= 0:
            return 0
        first, last = self._place // self._block, (self._place + length - 1) // self._block
        try:
            data = b"".join(self._blocks(first, last))
        except TruncatedError as error:
            raise OSError(str(error)) from error
        start = self._place - first * self._block
        view[:length] = data[start : start + length]
        self._place += length
        return length

    def _blocks(self, first: int, last: int) -> list[bytes]:
        parts = {number: self._kept[number] for number in range(first, last + 1) if number in self._kept}
        number = first
        while number <= last:
            stop = number
            while stop <= last and stop not in parts:
                stop += 1
            if stop > number:
                start = number * self._block
                data = self._source.read(start, min(stop * self._block, self._size) - start)
                for k in range(number, stop):
                    parts[k] = data[(k - number) * self._block : (k + 1 - number) * self._block]
            number = max(stop, number + 1)
        for k in range(first, last + 1):
            self._kept[k] = parts[k]
            self._kept.move_to_end(k)
        while len(self._kept) * self._block > _CACHED:
            self._kept.popitem(last=False)
        return [parts[k] for k in range(first, last + 1)]
