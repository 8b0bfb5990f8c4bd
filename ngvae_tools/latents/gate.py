"""What HDF5 may see of a latent file: the structures that `ngvae_tools.latents.writer` makes, and no others.

HDF5 2.0 crashes on B-trees and heaps whose numbers are wrong but whose checksums fit (divisions by zero, reads beyond
buffers), and many of its structures make it read other files. It reads each structure of its own, from the start, so
that the bytes checked here are those it parses.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

_SUPERBLOCK_BYTES = 48
_NOWHERE = b"\xff" * 8

_MESSAGES = {0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x08, 0x0A, 0x0B, 0x0C, 0x10, 0x15}
"""Nothing, shape, links, type, fill values (2), a link, layout, group, filters, attribute, more, attributes."""

_LINKS, _LAYOUT, _ATTRIBUTES = 0x02, 0x08, 0x15
_SHARED = 0x02
"""Flag of a message that lies elsewhere."""

_CONTIGUOUS, _CHUNKED = 1, 2
_SINGLE_CHUNK, _FIXED_ARRAY = b"\x01", b"\x03"

_TREE = struct.pack("<4sBBIHHBB", b"BTHD", 0, 5, 512, 11, 0, 100, 40)
"""Start of the B-tree of many links: of one leaf, 11 bytes a link."""

_PAGE_BITS = 10
_HEAP_BYTES = 512
_MOST_LINKS = (_HEAP_BYTES - 10) // 11
_HEAP = struct.Struct("<4sBHHBIQ8sQQQQQQQQQQHQQHHQH")


class GateError(Exception):
    """A structure that no latent file has; the text says which, and what to do where that is something else."""


class Gate:
    """Checks everything that HDF5 reads of one file, in the order of its reading."""

    def __init__(self) -> None:
        self._links = 0
        self._index = (0, 0, 0)
        self._pages: list[tuple[int, int, int]] = []
        self._checks: dict[bytes, Callable[[int, bytes], None]] = {
            b"\x89HDF": _check_superblock,
            b"OHDR": _check_messages,
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
        if any(_is_page(position, len(data), *pages) for pages in self._pages):
            return
        check = self._checks.get(data[:4])
        if check is None:
            what = f"an HDF5 file of another structure ({data[:4]!r})" if position else "no HDF5 file"
            raise GateError(what)
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

    def _check_index(self, _: int, header: bytes) -> None:
        self._index = _index_of(header)

    def _check_entries(self, position: int, entries: bytes) -> None:
        entry, in_page, count = self._index
        if count > in_page:
            # The pages of a long index follow it, and have no signature.
            self._pages.append((position + len(entries), in_page * entry, count * entry))


def _nothing(_: int, __: bytes) -> None:
    """The block of a heap: names and addresses, found by what was checked."""


def _check_superblock(_: int, data: bytes) -> None:
    if len(data) < _SUPERBLOCK_BYTES:
        # HDF5 looks for the signature first.
        return
    version, offset_bytes, length_bytes, flags, base, extension = struct.unpack_from("<4BQ8s", data, 8)
    if version != 3 or (offset_bytes, length_bytes, base, extension) != (8, 8, 0, _NOWHERE):
        raise GateError("an HDF5 file of another structure (its superblock)")
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
    # Behind the lengths of a chunk.
    index = layout[5 + layout[3] * layout[4] :][:1]
    return (layout[0], layout[1]) == (4, _CHUNKED) and index in {_SINGLE_CHUNK, _FIXED_ARRAY}


def _index_of(header: bytes) -> tuple[int, int, int]:
    """Bytes of an entry of an index of chunks, entries of a page, and of all."""
    if len(header) < 28:
        raise GateError("an HDF5 file of another structure (index)")
    entry, page_bits, entries = struct.unpack_from("<BBQ", header, 6)
    # An address, a size and a mask.
    if not 8 <= entry <= 20 or page_bits != _PAGE_BITS:
        raise GateError("an HDF5 file of another structure (index)")
    return int(entry), 1 << page_bits, int(entries)


def _is_page(position: int, size: int, start: int, page: int, entries: int) -> bool:
    """Whether a page of an index is read: so many bytes of entries, and a checksum."""
    number, rest = divmod(position - start, page + 4)
    return number >= 0 and rest == 0 and 4 < size == min(page, entries - number * page) + 4


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
