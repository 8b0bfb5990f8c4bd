"""Plain PNG files by libspng and libpng, whose pixels are Pillow's; every other PNG is left to Pillow."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ngvae_tools.datasets.buffer import fitting_buffer
from ngvae_tools.datasets.pillow import safe

if TYPE_CHECKING:
    import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HEADER = struct.Struct(">8sI4sIIBBBBBI")
_CHUNK = struct.Struct(">I4s")
_LONGEST = 1_000_000  # of a side, libpng's limit
_CRC = struct.Struct(">I")
_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)
# Bit depth and colour type, to channels and dtype. Pillow reads colour of 16 bits as 8: not here.
_LAYOUTS: dict[tuple[int, int], tuple[int, np.dtype[Any]]] = {
    (8, 0): (1, _UINT8),
    (8, 2): (3, _UINT8),
    (8, 4): (2, _UINT8),
    (8, 6): (4, _UINT8),
    (16, 0): (1, _UINT16),
}
# Ancillary chunks that change no pixel, and their length; text of these keywords turns no image.
_HARMLESS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7}
_KEYWORDS = frozenset(
    b"Title|Author|Description|Copyright|Creation Time|Software|Disclaimer|Warning|Source|Comment".split(b"|")
) | {b"date:create", b"date:modify", b"date:timestamp"}


def decode_png(data: bytes, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any] | None:
    """Decode a plain PNG to (H, W, C), into `out` if it fits; None: Pillow is to judge."""
    layout = _layout(data)
    if layout is None:
        return None
    import imagecodecs

    image = fitting_buffer(*layout, out)
    decode = imagecodecs.png_decode if _beyond_spng(*layout) else imagecodecs.spng_decode
    try:
        decode(data, out=image if image.shape[2] > 1 else image[:, :, 0])
    except Exception:  # noqa: BLE001 (whatever it is, Pillow says what is wrong)
        return None
    return image


def _beyond_spng(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> bool:
    """Whether libspng lacks a layout: grey with alpha, 16 bits. Then libpng, which prints what is wrong."""
    return shape[2] == 2 or dtype == _UINT16


def _layout(data: bytes) -> tuple[tuple[int, int, int], np.dtype[Any]] | None:
    """Shape and dtype of a PNG whose chunks are all known to leave its pixels alone, in sound order."""
    if len(data) < _HEADER.size:
        return None
    _, length, name, width, height, depth, colour, compression, method, interlace, _ = _HEADER.unpack_from(data)
    found = _LAYOUTS.get((depth, colour))
    plain = length == 13 and name == b"IHDR" and not (compression or method or interlace)
    sized = 0 < width <= _LONGEST and 0 < height <= _LONGEST and safe(width * height)
    if not (plain and sized and found):
        return None
    layout = (height, width, found[0]), found[1]
    return layout if _sound_chunks(data, sums=_beyond_spng(*layout)) else None


def _sound_chunks(data: bytes, *, sums: bool) -> bool:
    """Whether after the header come harmless chunks, pixels without a gap, harmless chunks and the end.

    Both libraries check the sums of the header and the pixels; at the wrong sum of another chunk Pillow refuses the
    file, while libpng warns. `sums`: check those of the pixels here too, before libpng prints that they are wrong.
    """
    position, end, pixels = _HEADER.size, len(data), 0
    before = b"IHDR"
    while position + 12 <= end:
        length, name = _CHUNK.unpack_from(data, position)
        following = position + 12 + length
        if following > end:
            return False
        if name == b"IEND":
            return pixels > 0 and length == 0
        if name == b"IDAT":
            if pixels and before != b"IDAT":
                return False
            if sums and not _right_sum(data[position + 4 : following]):
                return False
            pixels += length
        elif not _harmless(name, data[position + 4 : following]):
            return False
        before, position = name, following
    return False


def _harmless(name: bytes, chunk: bytes) -> bool:
    """Whether a chunk (name, content, sum) changes nothing, and its sum is right."""
    content = chunk[4:-4]
    known = content.split(b"\0", 1)[0] in _KEYWORDS if name == b"tEXt" else _HARMLESS.get(name) == len(content)
    return known and _right_sum(chunk)


def _right_sum(chunk: bytes) -> bool:
    return bool(zlib.crc32(chunk[:-4]) == _CRC.unpack(chunk[-4:])[0])
