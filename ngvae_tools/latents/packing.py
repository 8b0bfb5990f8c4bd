"""Bytes of one chunk, shuffled and deflated as any HDF5 reader takes them.

The bytes of each place of an element (all lowest ones, then the next) are deflated as blocks of their own, each with
the Huffman table that fits it. Matches of earlier bytes gain little on latents, so what they cost is left out where
it does not pay. The stream ends with the Adler-32 checksum of the bytes, which finds every flipped bit.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY)
_HEADER = b"\x78\x01"
_LEVEL, _BITS, _MEMORY = 6, 15, 9
_WIDEST = 8
"""Bytes of an element up to which each place has blocks of its own."""


class DamagedError(Exception):
    """Bytes that are not what was written; the text continues the name of where they are."""


def pack(values: npt.NDArray[Any]) -> bytes:
    """The values of a chunk, 1-D, as HDF5's filters shuffle and deflate write them."""
    planes = np.ascontiguousarray(np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1).T)
    whole = _HEADER + _smallest([planes.tobytes()]) if len(planes) > 1 else None
    if len(planes) <= _WIDEST:
        apart = _HEADER + _smallest([plane.tobytes() for plane in planes])
        whole = apart if whole is None else min(apart, whole, key=len)
    assert whole is not None
    return whole + zlib.adler32(planes.data).to_bytes(4, "big")


def unpack(packed: bytes, dtype: np.dtype[Any], rows: int) -> npt.NDArray[Any]:
    """The `rows` values of a chunk.

    Raises:
        DamagedError: The checksum does not fit, or these are not so many values.
    """
    size = dtype.itemsize * rows
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise DamagedError(f"is damaged ({error})") from None
    if len(data) != size or not inflater.eof:
        raise DamagedError(f"does not hold {size:,} bytes")
    places = np.frombuffer(data, np.uint8)
    if dtype.itemsize > 1:
        places = np.ascontiguousarray(places.reshape(dtype.itemsize, rows).T).reshape(-1)
    return places.view(dtype)


def _smallest(parts: list[bytes]) -> bytes:
    """Deflate blocks of all parts, each in the way that makes it smallest."""
    last = len(parts) - 1
    return b"".join(
        min((_deflated(part, strategy, final=k == last) for strategy in _STRATEGIES), key=len)
        for k, part in enumerate(parts)
    )


def _deflated(data: bytes, strategy: int, *, final: bool) -> bytes:
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_BITS, _MEMORY, strategy)
    return deflater.compress(data) + deflater.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
