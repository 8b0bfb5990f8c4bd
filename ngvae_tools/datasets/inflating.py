"""Bytes within a file at any offset, stored as they are or deflated, without holding all of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RAW = -zlib.MAX_WBITS
"""A bare deflate stream, as in a zip file."""

GZIP = zlib.MAX_WBITS | 16
"""A gzip stream."""

SPAN = 4 * 2**20
"""Bytes between two places where inflating can start again, in streams of up to 4 GiB."""

MAX_RATIO = 1032
"""Deflate packs no more bytes into one; whoever claims more has another reason to."""

_CUT = "the compressed stream is cut short"
_MAX_MARKS = 1024
_INPUT = 16 * 2**10


class TruncatedError(Exception):
    """The bytes end, or are damaged, before the end that was asked for; the text says how."""


@dataclass(frozen=True, slots=True)
class PlainBytes:
    """Bytes that lie in a file as they are.

    Attributes:
        path: The file.
        start: Offset of the first byte.
    """

    path: Path
    start: int = 0

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`. Raises `TruncatedError`."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.start + offset)
                data = file.read(length)
        except OSError as error:
            raise TruncatedError(error.strerror or str(error)) from error
        if len(data) < length:
            raise TruncatedError(f"the file ends after {offset + len(data):,} of {offset + length:,} bytes")
        return data


class DeflatedBytes:
    """Bytes that lie deflated in a file.

    The state of the decompressor is kept after every span of `SPAN` bytes (some 50 kB each), so that later reads
    start there: reading in order inflates once, a read elsewhere one span more than it returns, once the place has
    been passed. Nothing is written to disk. Not for several threads at once.

    Args:
        path: The file.
        total: How many bytes there are at most, inflated; beyond 4 GiB the spans grow, so that memory stays.
        start: Offset of the first compressed byte.
        form: `RAW` or `GZIP`.
    """

    def __init__(self, path: Path, total: int, *, start: int = 0, form: int = GZIP) -> None:
        self._path, self._start, self._form = path, start, form
        self._span = max(SPAN, -(-total // _MAX_MARKS))
        self._restart()

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`.

        Raises:
            TruncatedError: The stream ends or is damaged before.
        """
        parts = []
        for number in range(offset // self._span, -(-(offset + length) // self._span)):
            inflated, start = self._inflated(number), number * self._span
            wanted = min(offset + length - start, self._span)
            if len(inflated) < wanted:
                raise TruncatedError(self._failure or f"the stream ends after {start + len(inflated):,} bytes")
            parts.append(inflated[max(offset - start, 0) : wanted])
        return b"".join(parts)

    def damage(self, checksum: int | None = None) -> str | None:
        """Inflate everything once; what is wrong with it, if not only that its end is missing.

        Damaged streams often go on inflating, to other bytes: what comes before the place is not to be trusted.

        Args:
            checksum: CRC-32 of the bytes; None: a gzip stream has its own.
        """
        found = number = 0
        while len(span := self._inflated(number)) == self._span:
            found = zlib.crc32(span, found)
            number += 1
        if self._failure is None and checksum is not None and zlib.crc32(span, found) != checksum:
            return "a checksum that does not fit"
        return None if self._failure == _CUT else self._failure

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("_path", "_start", "_form", "_span")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._restart()

    def _restart(self) -> None:
        self._failure: str | None = None
        self._ended: int | None = None
        # (the decompressor, the input that it has not taken, the file's offset after that) at each span's start.
        self._marks: list[tuple[Any, bytes, int]] = [(zlib.decompressobj(self._form), b"", self._start)]
        self._last: tuple[int, bytes] = (-1, b"")

    def _inflated(self, number: int) -> bytes:
        """Span `number`; shorter than the others where the stream ends or is damaged."""
        if self._last[0] == number:
            return self._last[1]
        if self._ended is not None and number > self._ended:
            return b""
        for passed in range(min(number, len(self._marks) - 1), number + 1):
            if passed >= len(self._marks):
                break
            self._last = (passed, self._one(passed))
        return self._last[1] if self._last[0] == number else b""

    def _one(self, number: int) -> bytes:
        kept, pending, place = self._marks[number]
        inflater = kept.copy()
        parts, missing = [], self._span
        try:
            with self._path.open("rb") as file:
                file.seek(place)
                while missing and not inflater.eof:
                    data = pending or file.read(_INPUT)
                    part = inflater.decompress(data, missing)
                    if not data and not part:
                        self._failure = _CUT
                        break
                    pending = inflater.unconsumed_tail
                    parts.append(part)
                    missing -= len(part)
                place = file.tell()
        except (OSError, zlib.error) as error:
            self._failure = str(error)
        if missing:
            self._ended = number
        elif number + 1 == len(self._marks):
            self._marks.append((inflater.copy(), pending, place))
        return b"".join(parts)


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
