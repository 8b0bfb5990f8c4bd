"""TIFF layouts that Pillow does not know, by tifffile: floats in colour, half and double floats, many channels."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import TiffImagePlugin

from ngvae_tools.datasets.pillow import (
    UnusableImageError,
    as_uint16,
    reason,
    refuse_bomb,
    refuse_frames,
    refuse_non_finite,
    safe,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from tifffile import TiffPage

# None, LZW, deflate (two codes), PackBits, LZMA, Zstandard: each bounded by the size that it should give.
_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
_PHOTOMETRIC = frozenset({1, 2})  # black is zero; RGB


def decode_rare_tiff(data: bytes) -> npt.NDArray[Any] | None:
    """Decode a TIFF of one page whose layout Pillow does not know; None: it knows it, or nobody does.

    Raises:
        UnusableImageError: The layout is known, but the file is broken or its values cannot be used.
    """
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            if not _rare(page, file.byteorder):
                return None
            refuse_bomb(page.imagewidth * page.imagelength)
            _refuse_size(page.nbytes)
            refuse_frames(len(file.pages))
            image = _turned(_pixels(page, data), page)
    except UnusableImageError:
        raise
    except Exception as error:
        # Broken files raise TiffFileError, ValueError, struct.error, the codecs' errors and others.
        raise UnusableImageError(reason(error)) from error
    if image.dtype.kind in "iu" and image.dtype != np.uint8:
        return as_uint16(image)
    if image.dtype.kind == "f":
        refuse_non_finite(image)
        with np.errstate(over="ignore"):
            image = image.astype(np.float32)
        refuse_non_finite(image)
    return np.ascontiguousarray(image)


def _rare(page: TiffPage, byteorder: str) -> bool:
    """Whether a page is one image of numbers in a layout that Pillow does not list."""
    bits, samples = page.bitspersample, page.samplesperpixel
    if page.dtype is None or page.photometric not in _PHOTOMETRIC or page.compression not in _COMPRESSIONS:
        return False
    if page.dtype.kind not in "iuf" or bits not in {8, 16, 32, 64} or page.fillorder != 1 or page.imagedepth != 1:
        return False
    order = b"II" if byteorder == "<" else b"MM"
    extra = tuple(int(kind) for kind in page.extrasamples)
    layout = (order, int(page.photometric), (int(page.sampleformat),), 1, (bits,) * samples, extra)
    return layout not in TiffImagePlugin.OPEN_INFO


def _refuse_size(size: int) -> None:
    # Pillow's own images have up to four bytes a pixel.
    if not safe(size // 4):
        raise UnusableImageError(f"needs {size} bytes, more than any safe image")


def _pixels(page: TiffPage, data: bytes) -> npt.NDArray[Any]:
    """The page (H, W, C) from strips or tiles that must all be there and be whole."""
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if len(strips) != int(np.prod(page.chunked)):
        raise UnusableImageError("cannot be decoded: parts of the image are missing")
    whole = np.empty(page.shaped, page.dtype)
    for number, (start, size) in enumerate(strips):
        if not 0 < size <= len(data) - start:
            raise UnusableImageError("cannot be decoded: image file is truncated")
        part, position, shape = page.decode(data[start : start + size], number)
        if part is None or part.shape != shape:
            raise UnusableImageError("cannot be decoded: image file is truncated")
        plane, depth, top, left, _ = position
        place = whole[plane, depth : depth + shape[0], top : top + shape[1], left : left + shape[2]]
        # Tiles at the right and lower edge stand out.
        place[...] = part[:, : place.shape[1], : place.shape[2]]
    # Planes come first where channels lie apart.
    return np.moveaxis(whole[:, 0], 0, 2).reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def _turned(image: npt.NDArray[Any], page: TiffPage) -> npt.NDArray[Any]:
    """The image upright, by its orientation tag."""
    orientation = page.tags.valueof(274, default=1)
    if orientation in range(5, 9):
        image = image.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        image = image[::-1]
    if orientation in {2, 3, 6, 7}:
        image = image[:, ::-1]
    return image
