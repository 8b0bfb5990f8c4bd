"""The members of a plain tar file, by one walk over its headers (POSIX.1-2001 pax, ustar, GNU and V7)."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import BinaryIO

from ngvae_tools.datasets.inflating import TruncatedError
from ngvae_tools.datasets.sources import Source
from ngvae_tools.errors import DatasetError

BLOCK = 512

_MAX_EXTENSION = 2**20
_MAX_DIGITS = 20
_EXTENSIONS, _NO_DATA, _NO_FILES, _LINKS, _SPARSE, _FILES = b"LKxXg", b"123456", b"3456", b"12", b"S", b"\x0007"
_PAX_SIZE = re.compile(rb"(\d{1,20}) ")
_REMOTE_BLOCK = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Member:
    """A member that is no folder.

    Attributes:
        name: Its path as stored, up to the first NUL, less a leading "./".
        offset: Where its bytes begin.
        size: How many they are.
        problem: Why they are not a file's content, as a sentence fragment; None: they are.
    """

    name: bytes
    offset: int
    size: int
    problem: str | None


@dataclass(slots=True)
class _Told:
    """What extended headers say of the member that follows them."""

    name: bytes | None = None
    pax: dict[bytes, bytes] = field(default_factory=dict)

    def member(self, header: bytes, start: int, end_of_file: int, length: int) -> Member:
        kind, pax = header[156:157], self.pax
        named = pax.get(b"GNU.sparse.name") or pax.get(b"path") or self.name or _own_name(header)
        if (size := pax.get(b"size")) is not None and size.isdigit() and len(size) <= _MAX_DIGITS:
            length = int(size)
        if kind in _NO_DATA:
            length = 0
        problem = None
        if kind in _LINKS:
            problem = "is a link within the tar file, not an image"
        elif kind == _SPARSE or any(key.startswith(b"GNU.sparse") for key in pax):
            problem = "is stored as a sparse file"
        elif kind not in _FILES:
            problem = f"is a member of the unknown type {kind!r}"
        elif start + length > end_of_file:
            problem = f"is cut short: its tar file ends after {end_of_file:,} of {start + length:,} bytes"
        return Member(named.split(b"\0")[0].removeprefix(b"./"), start, length, problem)


def walk(source: Source) -> Generator[Member]:
    """The members in the order of the file; the last one may reach beyond its end, and then says so.

    Raises:
        DatasetError: A header is damaged or cut, or it is no tar file.
    """
    size, place, told = source.size, 0, _Told()
    with source.open(_REMOTE_BLOCK) as file:
        while place < size:
            header = _at(source, file, place, BLOCK)
            if header == bytes(BLOCK):
                return
            if not _sums_up(header):
                raise _damaged(source, place, "a header with a wrong checksum")
            kind, length, start = header[156:157], _number(source, place, header[124:136]), place + BLOCK
            if kind in _EXTENSIONS:
                if length > _MAX_EXTENSION:
                    raise _damaged(source, place, f"a header of {length:,} bytes")
                content = _at(source, file, start, length)
                if kind == b"L":
                    told.name = content
                elif kind in b"xX":
                    told.pax = _pax(source, place, content)
                place = start + _padded(length)
                continue
            more = kind == _SPARSE and header[482] != 0
            while more:
                more = _at(source, file, start, BLOCK)[504] != 0
                start += BLOCK
            member = told.member(header, start, size, length)
            if kind not in _NO_FILES and not member.name.endswith(b"/"):
                yield member
            place, told = start + _padded(member.size), _Told()


def _at(source: Source, file: BinaryIO, place: int, length: int) -> bytes:
    try:
        file.seek(place)
        data = file.read(length)
    except (OSError, TruncatedError) as error:
        raise _damaged(source, place, str(error)) from error
    if len(data) < length:
        raise _damaged(source, place, "the end of the file within a header")
    return data


def _sums_up(header: bytes) -> bool:
    stated = header[148:156].strip(b"\0 ")
    if not re.fullmatch(rb"[0-7]+", stated):
        return False
    bare = header[:148] + b" " * 8 + header[156:]
    # Some old programs summed signed characters.
    return int(stated, 8) in {sum(bare), sum(byte - 256 * (byte > 127) for byte in bare)}


def _number(source: Source, place: int, field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    digits = field.split(b"\0")[0].strip()
    if digits and not re.fullmatch(rb"[0-7]+", digits):
        raise _damaged(source, place, "a member of a negative or unreadable size")
    return int(digits or b"0", 8)


def _pax(source: Source, place: int, content: bytes) -> dict[bytes, bytes]:
    found = {}
    at = 0
    while at < len(content) and content[at : at + 1] != b"\0":
        match = _PAX_SIZE.match(content, at)
        stop = at + int(match[1]) if match else 0
        if match is None or not match.end() < stop <= len(content):
            raise _damaged(source, place, "an extended header that is not readable")
        key, _, value = content[match.end() : stop - 1].partition(b"=")
        found[key] = value
        at = stop
    return found


def _own_name(header: bytes) -> bytes:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _damaged(source: Source, place: int, found: str) -> DatasetError:
    return DatasetError(
        f"{source.location} cannot be read as a tar file",
        expected=f"a header of a member at byte {place:,}",
        found=found,
        remedy="make the file again, or take it away",
    )
