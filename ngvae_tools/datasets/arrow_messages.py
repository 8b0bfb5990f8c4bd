"""Where the record batches of an Arrow file lie, by one walk over its messages; stream and file format."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from ngvae_tools.datasets.sources import Source
from ngvae_tools.errors import DatasetError

_MAGIC = b"ARROW1\0\0"
_MARK = b"\xff\xff\xff\xff"
_MAX_METADATA = 2**28
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Message:
    """One record batch.

    Attributes:
        offset: Where its message begins.
        length: How many bytes it has with its body.
        rows: How many rows.
    """

    offset: int
    length: int
    rows: int


def walk(source: Source) -> tuple[bytes, list[Message]]:
    """The schema's message and the record batches.

    Raises:
        DatasetError: It is damaged, cut short, or holds dictionaries.
    """
    size = source.size
    schema: bytes | None = None
    batches = []
    ended = False
    with source.open(2**16) as file:
        place = len(_MAGIC) if _take(source, file, 0, min(8, size)) == _MAGIC else 0
        while place + 8 <= size:
            head = _take(source, file, place, 8)
            length = int.from_bytes(head[4:], "little", signed=True)
            if head[:4] != _MARK or not 0 <= length <= _MAX_METADATA:
                raise _damaged(source, place, "no message of Arrow 0.15 or later")
            if length == 0:
                ended = True
                break
            metadata = _take(source, file, place + 8, length)
            try:
                kind, rows, body = _read(metadata)
            except (struct.error, IndexError) as error:
                raise _damaged(source, place, "metadata that lead nowhere") from error
            if kind == _DICTIONARY or body < 0 or rows < 0 or (schema is None) != (kind == _SCHEMA):
                raise _damaged(source, place, "a message that is neither the schema nor a batch of plain columns")
            if kind == _SCHEMA:
                schema = head + metadata
            elif kind == _BATCH:
                batches.append(Message(place, 8 + length + body, rows))
            place += 8 + length + body
    if schema is None or not ended:
        # How many batches are lost cannot be told.
        raise _damaged(source, place, "the end of the file, without the mark that ends it")
    return schema, batches


def _take(source: Source, file: BinaryIO, place: int, length: int) -> bytes:
    try:
        file.seek(place)
        data = file.read(length)
    except OSError as error:
        raise _damaged(source, place, str(error)) from error
    if len(data) < length:
        raise _damaged(source, place, "the end of the file within a message's metadata")
    return data


def _read(metadata: bytes) -> tuple[int, int, int]:
    """Kind, rows (0 unless it is a batch) and bytes of the body of a flatbuffer Message (Arrow's Message.fbs)."""
    message = struct.unpack_from("<I", metadata, 0)[0]
    kind_at, header_at, body_at = (_field(metadata, message, k) for k in (1, 2, 3))
    kind = metadata[kind_at] if kind_at else 0
    body = struct.unpack_from("<q", metadata, body_at)[0] if body_at else 0
    rows = 0
    if kind == _BATCH:
        header = header_at + struct.unpack_from("<I", metadata, header_at)[0]
        rows_at = _field(metadata, header, 0)
        rows = struct.unpack_from("<q", metadata, rows_at)[0] if rows_at else 0
    return kind, rows, body


def _field(data: bytes, table: int, number: int) -> int:
    """Offset of a field of a flatbuffer table; 0: it has its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise IndexError
    length = struct.unpack_from("<H", data, vtable)[0]
    at = 4 + 2 * number
    offset = struct.unpack_from("<H", data, vtable + at)[0] if at + 2 <= length else 0
    return table + offset if offset else 0


def _damaged(source: Source, place: int, found: str) -> DatasetError:
    return DatasetError(
        f"{source.location} cannot be read as an Arrow file",
        expected=f"a message at byte {place:,}",
        found=found,
        remedy="check the file, or write it again",
    )
