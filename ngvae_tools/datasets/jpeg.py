"""Plain JPEG files by libjpeg-turbo, whose pixels are Pillow's; every other JPEG is left to Pillow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, features

from ngvae_tools.datasets.buffer import fitting_buffer
from ngvae_tools.datasets.pillow import safe

if TYPE_CHECKING:
    import numpy.typing as npt

SIGNATURE = b"\xff\xd8\xff"

_SEGMENT = struct.Struct(">BBH")
_FRAME = struct.Struct(">BHHB")
_UINT8 = np.dtype(np.uint8)
_ORIENTATION = 0x0112
_BASELINE, _EXTENDED, _PROGRESSIVE, _SCAN = 0xC0, 0xC1, 0xC2, 0xDA
_HUFFMAN, _QUANTISATION, _RESTARTS, _COMMENT = 0xC4, 0xDB, 0xDD, 0xFE
_FRAMES = frozenset({_BASELINE, _EXTENDED, _PROGRESSIVE})
_TABLES = frozenset({_HUFFMAN, _QUANTISATION, _RESTARTS, _COMMENT})
_APPLICATION = frozenset(range(0xE0, 0xF0))
_EXIF, _PREVIEWS, _ADOBE = b"Exif\0\0", b"MPF\0", b"Adobe"


def decode_jpeg(data: bytes, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any] | None:
    """Decode a plain JPEG to (H, W, C), into `out` if it fits; None: Pillow is to judge."""
    shape = _shape(data) if _same_library() else None
    if shape is None:
        return None
    import simplejpeg

    image = fitting_buffer(shape, _UINT8, out)
    try:
        # Strict: what libjpeg would mend with a warning is an error, for Pillow to judge.
        decoded = simplejpeg.decode_jpeg(data, "RGB" if shape[2] == 3 else "GRAY", buffer=image)
    except Exception:  # noqa: BLE001 (whatever it is, Pillow says what is wrong)
        return None
    return image if decoded.shape == shape else None


@cache
def _same_library() -> bool:
    """Whether Pillow decodes by libjpeg-turbo too; another libjpeg gives other pixels."""
    return bool(features.check_feature("libjpeg_turbo"))


def _shape(data: bytes) -> tuple[int, int, int] | None:
    """(H, W, C) of an upright JPEG in grey or YCbCr whose segments up to the first scan are all known."""
    shape: tuple[int, int, int] | None = None
    seen = bytearray()
    for marker, content in _segments(data):
        if marker == _SCAN:
            return shape
        if marker in _FRAMES and shape is None:
            shape = _frame(content)
            if shape is None:
                return None
        elif marker in _APPLICATION:
            if content.startswith((_EXIF, _ADOBE)):
                # Pillow puts the parts of a split Exif together.
                if content[:1] in seen:
                    return None
                seen += content[:1]
            if not _harmless(content):
                return None
        elif marker not in _TABLES:
            return None
    return None


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment up to the first scan, as long as they follow each other without a gap."""
    position, end = 2, len(data)
    while position + 4 <= end:
        fill, marker, length = _SEGMENT.unpack_from(data, position)
        start, position = position + 4, position + 2 + length
        if fill != 0xFF or length < 2 or position > end:
            return
        yield marker, data[start:position]
        if marker == _SCAN:
            return


def _frame(content: bytes) -> tuple[int, int, int] | None:
    """(H, W, C) of a frame header in grey or three colours of 8 bits."""
    if len(content) < _FRAME.size:
        return None
    depth, height, width, components = _FRAME.unpack_from(content)
    known = depth == 8 and components in {1, 3} and len(content) == _FRAME.size + 3 * components
    return (height, width, components) if known and width and height and safe(width * height) else None


def _harmless(content: bytes) -> bool:
    """Whether an application's segment neither turns nor recolours the image, nor announces others."""
    if content.startswith(_EXIF):
        return _upright(content)
    if content.startswith(_ADOBE):
        # Transform 1 is YCbCr, as without this segment.
        return len(content) >= 12 and content[11] == 1
    return not content.startswith(_PREVIEWS) and b"Orientation" not in content


def _upright(segment: bytes) -> bool:
    """Whether Pillow finds no turn in an Exif segment."""
    exif = Image.Exif()
    try:
        exif.load(segment)
        return exif.get(_ORIENTATION, 1) not in range(2, 9)
    except Exception:  # noqa: BLE001 (a broken segment is for Pillow to judge)
        return False
