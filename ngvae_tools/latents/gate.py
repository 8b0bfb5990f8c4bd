"""What HDF5 may see of a latent file: the structures that `ngvae_tools.latents.writer` makes, and no others.

HDF5 2.0 crashes on B-trees and heaps whose numbers are wrong but whose checksums fit (divisions by zero, reads beyond
buffers), and many of its structures make it read other files. It reads each structure of its own, from the start, so
that the bytes checked here are those it parses.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

_SUPERBLOCK_BYTES = 48
_NOWHERE = b"\xff" * 8

_MESSAGES = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x0A, 0x0B, 0x0C, 0x10, 0x15}
"""Nothing, shape, links, type, fill values (2), a link, layout, group, filters, attribute, more, attributes."""

_SPACE, _LAYOUT, _FILTERS, _ATTRIBUTES = 0x01, 0x08, 0x0B, 0x15
_SHARED = 0x02
"""Flag of a message that lies elsewhere."""

_CONTIGUOUS, _CHUNKED = 1, 2

_TREE = struct.pack("<4sBBIHHBB", b"BTHD", 0, 5, 512, 11, 0, 100, 40)
"""Start of the B-tree of many links: of one leaf, 11 bytes a link."""

_PAGE_BITS = 10
_SINGLE_CHUNK, _FIXED_ARRAY = b"\x01", bytes([3, _PAGE_BITS])
_HEAP_BYTES = 512
_MOST_LINKS = (_HEAP_BYTES - 10) // 11
_HEAP = struct.Struct("<4sBHHBIQ8sQQQQQQQQQQHQQHHQH")

NAME_ONE = "name a latent file or the output folder of select-latents"
_ANOTHER = f"{NAME_ONE}, or restore it from a copy"
"""What to do where a file may never have been one of ours."""


class GateError(Exception):
    """A structure that no latent file has; the text says which, and what to do where that is something else."""


class Gate:
    """Checks everything that HDF5 reads of one file, in the order of its reading."""

    def __init__(self) -> None:
        self._links = 0
        # What is known of places before they are read: of indices, their entries, and the pages behind these.
        self._indices: dict[int, _Index] = {}
        self._entries: dict[int, _Index] = {}
        self._pages: list[tuple[int, _Index]] = []
        self._checks: dict[bytes, Callable[[int, bytes], None]] = {
            b"\x89HDF": _check_superblock,
            b"OHDR": self._check_object,
            b"OCHK": _check_messages,
            b"BTHD": self._check_tree,
            b"BTLF": self._check_leaf,
            b"FRHP": _check_heap,
            b"FHDB": _nothing,
            b"FAHD": self._check_index,
            b"FADB": self._check_entries,
        }

    def check(self, position: int, data: bytes) -> None:
        """Let what was read pass.

        Raises:
            GateError: HDF5 must not see it.
        """
        if any(index.is_page(position - start, len(data)) for start, index in self._pages):
            return
        check = self._checks.get(data[:4])
        if check is None:
            if position == 0:
                raise GateError("no HDF5 file", _ANOTHER)
            raise GateError(f"an HDF5 file of another structure ({data[:4]!r})")
        check(position, data)

    def _check_tree(self, _: int, tree: bytes) -> None:
        self._links = _links_of(tree)

    def _check_leaf(self, _: int, leaf: bytes) -> None:
        if len(leaf) < 6 + 11 * self._links:
            raise GateError("an HDF5 file of another structure (links)")
        for k in range(self._links):
            kind, offset, size = struct.unpack_from("<BIH", leaf, 10 + 11 * k)
            if kind or offset + size > _HEAP_BYTES:
                raise GateError("an HDF5 file of another structure (links)")

    def _check_object(self, position: int, header: bytes) -> None:
        _check_messages(position, header)
        found: dict[int, bytes] = {}
        for kind, _, body in _messages(header):
            if kind in found and kind in {_SPACE, _LAYOUT, _FILTERS}:
                raise GateError("an HDF5 file of another structure (doubled messages)")
            found[kind] = body
        layout = found.get(_LAYOUT, b"")
        if layout[1:2] == bytes([_CHUNKED]):
            index = _index_of(layout, found.get(_SPACE, b""), filtered=_FILTERS in found)
            self._indices[int.from_bytes(layout[-8:], "little")] = index

    def _check_index(self, position: int, header: bytes) -> None:
        index = self._indices.get(position)
        if (
            index is None
            or len(header) < 28
            or struct.unpack_from("<BBQ", header, 6)
            != (
                index.entry,
                _PAGE_BITS,
                index.chunks,
            )
        ):
            raise GateError("an HDF5 file of another structure (index)")
        self._entries[int.from_bytes(header[16:24], "little")] = index

    def _check_entries(self, position: int, entries: bytes) -> None:
        index = self._entries.get(position)
        if index is None:
            raise GateError("an HDF5 file of another structure (index)")
        # The pages of a long index follow it, and have no signature.
        self._pages.append((position + len(entries), index))


@dataclass(frozen=True, slots=True)
class _Index:
    """Where the chunks of a data set are.

    Attributes:
        chunks: Their number.
        entry: Bytes that each takes in the index.
    """

    chunks: int
    entry: int

    def is_page(self, place: int, size: int) -> bool:
        """Whether a page is read, so far behind where pages begin: entries, and a checksum."""
        page, entries = self.entry << _PAGE_BITS, self.entry * self.chunks
        number, rest = divmod(place, page + 4)
        return entries > page and number >= 0 and rest == 0 and 4 < size == min(page, entries - number * page) + 4


def _nothing(_: int, __: bytes) -> None:
    """The block of a heap: names and addresses, found by what was checked."""


def _check_superblock(_: int, data: bytes) -> None:
    if len(data) < _SUPERBLOCK_BYTES:
        # HDF5 looks for the signature first.
        return
    version, offset_bytes, length_bytes, flags, base, extension = struct.unpack_from("<4BQ8s", data, 8)
    if version != 3 or (offset_bytes, length_bytes, base, extension) != (8, 8, 0, _NOWHERE):
        raise GateError("an HDF5 file of another structure (its superblock)", _ANOTHER)
    if flags:
        raise GateError(
            "a file that another program writes to, or did not close",
            "wait until it ends, or run: h5clear --status FILE (part of HDF5)",
        )


def _check_messages(_: int, data: bytes) -> None:
    """The messages of an object."""
    for kind, flags, body in _messages(data):
        if kind not in _MESSAGES or flags & _SHARED:
            raise GateError(f"an HDF5 file of another structure (message {kind})")
        if kind == _ATTRIBUTES and (len(body) < 10 or body[2 + 2 * (body[1] & 1) :][:8] != _NOWHERE):
            raise GateError("an HDF5 file of another structure (too many attributes)")
        if kind == _LAYOUT and not _is_known(body):
            raise GateError("an HDF5 file of another structure (layout)")


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and content of each."""
    if data[:4] == b"OHDR":
        if len(data) < 7 or data[4] != 2:
            raise GateError("an HDF5 file of another structure (object header)")
        flags = data[5]
        start = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        size_bytes = 1 << (flags & 3)
        stop = start + size_bytes + int.from_bytes(data[start : start + size_bytes], "little")
        start += size_bytes
        if stop > len(data) or flags & 0x04:
            # Longer than what HDF5 reads at first, or of a kind that the writer does not make.
            raise GateError("an HDF5 file of another structure (object header)")
    else:
        start, stop = 4, len(data) - 4
    while start + 4 <= stop:
        kind, size, flags = struct.unpack_from("<BHB", data, start)
        yield kind, flags, data[start + 4 : min(start + 4 + size, stop)]
        start += 4 + size


def _is_known(layout: bytes) -> bool:
    """Whether a layout is of plain bytes, or chunks with one of two indices."""
    if len(layout) < 5 or layout[0] not in {3, 4}:
        return False
    if layout[1] == _CONTIGUOUS:
        return True
    axes, size = layout[3:5]
    index = layout[5 + axes * size :]
    return (
        (layout[0], layout[1]) == (4, _CHUNKED)
        and layout[2] in {0, 2}
        and axes in {2, 3}
        and 1 <= size <= 8
        and all(_numbers(layout[5:], axes, size))
        # A fixed array, or the address of one chunk, behind its size where it is filtered.
        and ((index[:2] == _FIXED_ARRAY and len(index) == 10) or (index[:1] == _SINGLE_CHUNK and len(index) in {9, 21}))
    )


def _index_of(layout: bytes, space: bytes, *, filtered: bool) -> _Index:
    """The index that a data set must have, by its layout and its shape."""
    chunk = _numbers(layout[5:], layout[3], layout[4])
    axes = len(chunk) - 1
    if space[:2] != bytes([2, axes]) or len(space) < 4 + 8 * axes:
        raise GateError("an HDF5 file of another structure (shape)")
    chunks = prod(-(-n // rows) for n, rows in zip(_numbers(space[4:], axes, 8), chunk[:-1], strict=True))
    # An address; behind filters also a size, in as many bytes as HDF5 takes for it, and a mask.
    size = min(1 + (prod(chunk).bit_length() + 7) // 8, 8)
    return _Index(chunks, 12 + size if filtered else 8)


def _numbers(data: bytes, count: int, size: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[k * size : (k + 1) * size], "little") for k in range(count))


def _links_of(tree: bytes) -> int:
    """Number of links that a B-tree finds."""
    if len(tree) < 38 or not tree.startswith(_TREE):
        raise GateError("an HDF5 file of another structure (B-tree)")
    links, total = struct.unpack_from("<HQ", tree, 24)
    if links != total or links > _MOST_LINKS:
        raise GateError("an HDF5 file of another structure (B-tree)")
    return int(links)


def _check_heap(_: int, heap: bytes) -> None:
    """A heap of one block, of 512 bytes."""
    if len(heap) < _HEAP.size:
        raise GateError("an HDF5 file of another structure (heap)")
    fields = _HEAP.unpack_from(heap)
    sizes, places, table = fields[1:6], (fields[6], fields[7], *fields[14:18]), fields[18:23]
    if (
        sizes != (0, 7, 0, 2, 4096)
        or places != (0, _NOWHERE, 0, 0, 0, 0)
        or fields[10:12] != (_HEAP_BYTES, _HEAP_BYTES)
        or table != (4, _HEAP_BYTES, 2**16, 32, 1)
        or fields[24] != 0
    ):
        raise GateError("an HDF5 file of another structure (heap)")
