"""Decode one image file into an array (H, W, C), or say why not.

Pillow is the judge: plain PNG, JPEG and TIFF files take a faster decoder that gives the same pixels, and whatever
that one does not know, or fails at, is read or refused as Pillow does. Only TIFF layouts unknown to Pillow go on
to tifffile.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from PIL import UnidentifiedImageError

from ngvae_tools.datasets import jpeg, png, tiff
from ngvae_tools.datasets.pillow import UnusableImageError, decode_with_pillow, formats, reason, suffixes

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MAX_FILE_BYTES", "UnusableImageError", "decode_bytes", "decode_file", "formats", "read_file", "suffixes"]

MAX_FILE_BYTES = 1 << 30
"""Larger files are refused unread; the largest image that Pillow thinks safe has 0.7 GiB in 16-bit RGBA."""

# Without waiting for a pipe that took a file's place; in binary mode where the system knows another.
_READING = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def decode_file(path: str | bytes | os.PathLike[str], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """Decode an image file, see `decode_bytes`.

    Raises:
        UnusableImageError: For any reason, which its text gives.
    """
    return decode_bytes(read_file(path), out)


def read_file(path: str | bytes | os.PathLike[str]) -> bytes:
    """The bytes of an image file.

    Raises:
        UnusableImageError: It cannot be read, or is too large.
    """
    try:
        return _contents(path)
    except (OSError, MemoryError) as error:
        raise UnusableImageError(reason(error)) from error


def decode_bytes(data: bytes, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """Decode an image file's bytes to (H, W, C), turned upright by its EXIF orientation.

    L and 1-bit: one channel of uint8 (1-bit as 0 and 255). LA: two. Palette: RGB, with transparency RGBA.
    CMYK, YCbCr, LAB, HSV: RGB. 16-bit and fitting 32-bit integers: one channel of uint16. F: one of float32.
    Pillow reads colour with 16 bits a channel as 8 bits. TIFF layouts beyond Pillow (several channels of float,
    half and double floats, five channels of 16 bits) keep their channels, as uint8, uint16 or float32. A file with
    several frames or pages is no image; of a camera's JPEG with previews (MPO) the first counts.

    Args:
        data: The file.
        out: Where to decode to, without a copy, if its shape and dtype fit: then it is what is returned. Else, and
            for files that Pillow reads, a new array is. After an error it may hold anything.

    Raises:
        UnusableImageError: For any reason, which its text gives.
    """
    try:
        image = _by_fast_decoder(data, out)
    except MemoryError as error:
        raise UnusableImageError(reason(error)) from error
    if image is not None:
        return image
    try:
        return decode_with_pillow(data)
    except UnusableImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError) and data.startswith(tiff.SIGNATURES):
            from ngvae_tools.datasets.rare_tiff import decode_rare_tiff

            image = decode_rare_tiff(data)
        if image is None:
            raise
        return image


def _by_fast_decoder(data: bytes, out: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    if data.startswith(png.SIGNATURE):
        return png.decode_png(data, out)
    if data.startswith(jpeg.SIGNATURE):
        return jpeg.decode_jpeg(data, out)
    if data.startswith(tiff.SIGNATURES):
        return tiff.decode_tiff(data, out)
    return None


def _contents(path: str | bytes | os.PathLike[str]) -> bytes:
    file = os.open(path, _READING)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableImageError("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
        size = status.st_size
        if size > MAX_FILE_BYTES:
            raise UnusableImageError(f"is larger ({size} bytes) than any safe image ({MAX_FILE_BYTES})")
        # One byte more than there should be: a shorter answer of the right length is the end.
        data = os.read(file, size + 1)
        if len(data) == size:
            return data
        parts, total = [data], len(data)
        while part := os.read(file, min(1 << 20, MAX_FILE_BYTES + 1 - total)):
            parts.append(part)
            total += len(part)
            if total > MAX_FILE_BYTES:
                raise UnusableImageError(f"grows beyond any safe image ({MAX_FILE_BYTES} bytes)")
        return b"".join(parts)
    finally:
        os.close(file)
