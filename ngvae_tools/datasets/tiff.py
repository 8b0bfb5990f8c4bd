"""Plain TIFF files, whose pixels are Pillow's; every other TIFF is left to Pillow."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from ngvae_tools.datasets.buffer import fitting_buffer
from ngvae_tools.datasets.pillow import refuse_non_finite, safe

if TYPE_CHECKING:
    import numpy.typing as npt

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of little and big endian, classic and big TIFF."""

_LITTLE = SIGNATURES[0]
_START, _COUNT, _ENTRY, _NEXT = struct.Struct("<4sI"), struct.Struct("<H"), struct.Struct("<HHI4s"), struct.Struct("<I")
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}  # of field types: byte, text, short, long, rational
_INTEGERS = {3: "H", 4: "I"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS = 256, 257, 258, 259, 262, 273
_ORIENTATION, _CHANNELS, _ROWS, _SIZES, _PLANES, _PREDICTOR, _FORMAT = 274, 277, 278, 279, 284, 317, 339
_NUMBERS = frozenset({254, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _ORIENTATION, _CHANNELS,
                      _ROWS, _SIZES, _PLANES, 296, _PREDICTOR, _FORMAT})  # fmt: skip
# Description, software, date: text that changes no pixel; and resolutions.
_TEXTS, _RATIOS = frozenset({270, 305, 306}), frozenset({282, 283})
# Photometric interpretation, sample format, bits per sample: grey of 8, 16 and 32 bits, and RGB.
_LAYOUTS: dict[tuple[Any, ...], np.dtype[Any]] = {
    (1, 1, (8,)): np.dtype(np.uint8),
    (1, 1, (16,)): np.dtype("<u2"),
    (1, 3, (32,)): np.dtype("<f4"),
    (2, 1, (8, 8, 8)): np.dtype(np.uint8),
}
_RAW, _LZW, _DEFLATE = 1, 5, 8


def decode_tiff(data: bytes, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any] | None:
    """Decode a plain TIFF of one page to (H, W, C), into `out` if it fits; None: Pillow is to judge.

    Raises:
        UnusableImageError: It holds non-finite floats.
    """
    tags = _tags(data)
    if tags is None:
        return None
    (height, *more), (width, *others) = tags.get(_HEIGHT, (0,)), tags.get(_WIDTH, (0,))
    bits, formats = tags.get(_BITS, (1,)), set(tags.get(_FORMAT, (1,)))
    plain = (
        not (more or others)
        and tags.get(_ORIENTATION, (1,)) == tags.get(_PLANES, (1,)) == tags.get(_PREDICTOR, (1,)) == (1,)
        and tags.get(254, (0,)) == (0,)
        and tags.get(_CHANNELS, (1,)) == (len(bits),)
        and len(formats) == 1
    )
    dtype = _LAYOUTS.get((tags.get(_PHOTOMETRIC, (0,))[0], *formats, bits)) if plain else None
    if dtype is None or not (width and height and safe(width * height)):
        return None
    image = fitting_buffer((height, width, len(bits)), dtype.newbyteorder("="), out)
    if not _filled(image, data, tags, dtype):
        return None
    refuse_non_finite(image)
    return image


def _tags(data: bytes) -> dict[int, tuple[int, ...]] | None:
    """The numbers of the only page of a classic, little-endian TIFF; None if it has any tag that is not known."""
    if len(data) < _START.size:
        return None
    signature, position = _START.unpack_from(data)
    if signature != _LITTLE or position + 2 > len(data):
        return None
    (entries,) = _COUNT.unpack_from(data, position)
    end = position + 2 + 12 * entries
    if end + 4 > len(data) or _NEXT.unpack_from(data, end) != (0,):
        return None
    tags: dict[int, tuple[int, ...]] = {}
    for start in range(position + 2, end, 12):
        tag, kind, count, _ = _ENTRY.unpack_from(data, start)
        size = _BYTES.get(kind, 0) * count
        where = start + 8 if size <= 4 else _NEXT.unpack_from(data, start + 8)[0]
        if not size or where + size > len(data) or tag in tags:
            return None
        if tag in _NUMBERS and kind in _INTEGERS:
            tags[tag] = struct.unpack_from(f"<{count}{_INTEGERS[kind]}", data, where)
        elif not ((tag in _TEXTS and kind == 2) or (tag in _RATIOS and kind == 5 and count == 1)):
            return None
    return tags


def _filled(image: npt.NDArray[Any], data: bytes, tags: dict[int, tuple[int, ...]], dtype: np.dtype[Any]) -> bool:
    """Whether the image could be filled from strips that follow each other and cover it exactly."""
    height, strips, sizes = image.shape[0], tags.get(_STRIPS, ()), tags.get(_SIZES, ())
    (rows, *more) = tags.get(_ROWS, (height,))
    (compression, *others) = tags.get(_COMPRESSION, (_RAW,))
    sound = not (more or others) and rows and len(strips) == len(sizes) == -(-height // rows)
    if not sound or any(start + size > len(data) for start, size in zip(strips, sizes, strict=True)):
        return False
    if compression == _RAW:
        together = all(a + b == c for a, b, c in zip(strips, sizes, strips[1:], strict=False))
        if image.nbytes != sum(sizes) or not together:
            return False
        image[...] = np.frombuffer(data, dtype, image.size, strips[0]).reshape(image.shape)
        return True
    try:
        if compression == _LZW:
            return _by_libtiff(image, data)
        return compression == _DEFLATE and _inflated(image, data, dtype, rows, strips, sizes)
    except Exception:  # noqa: BLE001 (whatever it is, Pillow says what is wrong)
        return False


def _by_libtiff(image: npt.NDArray[Any], data: bytes) -> bool:
    import imagecodecs

    imagecodecs.tiff_decode(data, out=image if image.shape[2] > 1 else image[:, :, 0])
    return True


def _inflated(
    image: npt.NDArray[Any],
    data: bytes,
    dtype: np.dtype[Any],
    rows: int,
    strips: tuple[int, ...],
    sizes: tuple[int, ...],
) -> bool:
    import imagecodecs

    # Not by libtiff, which leaves a strip half done where its sum is wrong.
    for number, (start, size) in enumerate(zip(strips, sizes, strict=True)):
        part = image[number * rows : (number + 1) * rows]
        values = imagecodecs.zlibng_decode(data[start : start + size], out=part.nbytes)
        # Too few of them raise here.
        part[...] = np.frombuffer(values, dtype).reshape(part.shape)
    return True
