"""The denser codec of archives: pcodec over blocks of a column, each with a checksum of its own.

pcodec finds no flipped bit by itself, so the CRC-32 of every block lies beside it.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import MissingDependencyError
from ngvae_tools.latents.packing import DamagedError

_LEVEL = 12


def check_archive_codec() -> None:
    """Refuse where the codec is missing.

    Raises:
        MissingDependencyError: The installed imagecodecs was built without it.
    """
    import imagecodecs

    if not imagecodecs.PCODEC.available:
        raise MissingDependencyError(
            "the codec of archives is not installed",
            expected="a build of imagecodecs with pcodec, as the wheels of PyPI have it",
            found=f"imagecodecs {imagecodecs.__version__} without it",
            remedy="install imagecodecs from PyPI, or use --codec deflate",
        )


def pack_block(values: npt.NDArray[Any]) -> tuple[bytes, int]:
    """A block of one column, 1-D, and the checksum of its bytes."""
    import imagecodecs

    packed = bytes(imagecodecs.pcodec_encode(np.ascontiguousarray(values, _wide(values.dtype)), level=_LEVEL))
    return packed, zlib.crc32(packed)


def unpack_block(packed: bytes, checksum: int, dtype: np.dtype[Any], rows: int) -> npt.NDArray[Any]:
    """The `rows` values of a block.

    Raises:
        DamagedError: The checksum does not fit, or these are not so many values.
    """
    import imagecodecs

    if zlib.crc32(packed) != checksum:
        raise DamagedError("is damaged (its checksum does not fit)")
    try:
        values = imagecodecs.pcodec_decode(packed, shape=(rows,), dtype=_wide(dtype))
    except (imagecodecs.PcodecError, ValueError, RuntimeError, TypeError) as error:
        raise DamagedError(f"is damaged ({error})") from None
    return np.asarray(values).astype(dtype, copy=False)


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Pcodec has no type of one byte."""
    return np.dtype("<u2") if dtype.itemsize == 1 else dtype
