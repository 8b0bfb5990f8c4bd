"""Decode an image file's bytes with Pillow into an array (H, W, C), or say why not."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ngvae_tools.datasets.base import NON_FINITE

if TYPE_CHECKING:
    import numpy.typing as npt

# Pillow names these formats but cannot decode them everywhere; EPS it hands to an outside program.
_LEFT_OUT = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_COMMON = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM")
_AS_IS = frozenset({"L", "LA", "RGB", "RGBA", "F"})
_WITH_ALPHA = frozenset({"PA", "RGBa", "La"})


class UnusableImageError(Exception):
    """An image file that cannot be used; its text is the reason."""


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that are decoded, the common ones first."""
    Image.init()
    known = [name for name in Image.ID if name not in _LEFT_OUT]
    return tuple(sorted(known, key=lambda name: _COMMON.index(name) if name in _COMMON else len(_COMMON)))


@cache
def suffixes() -> frozenset[str]:
    """File name endings that count as images, in lower case and with their dot."""
    usable = set(formats())
    return frozenset(suffix.lower() for suffix, name in Image.registered_extensions().items() if name in usable)


def decode_with_pillow(data: bytes) -> npt.NDArray[Any]:
    """Decode an image file's bytes to (H, W, C), turned upright by its EXIF orientation.

    L and 1-bit: one channel of uint8 (1-bit as 0 and 255). LA: two. Palette: RGB, with transparency RGBA.
    CMYK, YCbCr, LAB, HSV: RGB. 16-bit and fitting 32-bit integers: one channel of uint16. F: one of float32.
    Pillow reads colour with 16 bits a channel as 8 bits. A file with several frames or pages is no image; of a
    camera's JPEG with previews (MPO) the first counts.

    Raises:
        UnusableImageError: For any reason, which its text gives.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            refuse_bomb(image.width * image.height)
            if image.format != "MPO":
                refuse_frames(getattr(image, "n_frames", 1))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            array = _as_array(image)
    except UnusableImageError:
        raise
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and others.
        raise UnusableImageError(reason(error, empty=not data)) from error
    refuse_non_finite(array)
    return array


def safe(pixels: int) -> bool:
    """Whether an image of so many pixels may be decoded: no more than Pillow's own limit."""
    return Image.MAX_IMAGE_PIXELS is None or pixels <= Image.MAX_IMAGE_PIXELS


def refuse_bomb(pixels: int) -> None:
    """Raise `UnusableImageError` if an image of so many pixels is not safe."""
    # Up to twice its limit Pillow only warns, and warnings cannot be caught in one thread alone.
    if not safe(pixels):
        raise UnusableImageError(f"has {pixels} pixels, more than the safe {Image.MAX_IMAGE_PIXELS}")


def refuse_frames(frames: int) -> None:
    """Raise `UnusableImageError` if a file holds several: one of 60 slices would pass for the whole stack."""
    if frames > 1:
        raise UnusableImageError(
            f"holds several frames or pages: {frames}; save each as a file of its own, or all as HDF5"
        )


def _as_array(image: Image.Image) -> npt.NDArray[Any]:
    mode = image.mode
    if mode.startswith("I"):
        array = as_uint16(np.asarray(image))
    elif mode in _AS_IS:
        array = np.asarray(image)
    elif mode == "1":
        array = np.asarray(image.convert("L"))
    elif mode == "LAB":
        array = np.asarray(_lab_to_rgb(image))
    elif mode in _WITH_ALPHA or (mode == "P" and "transparency" in image.info):
        array = np.asarray(image.convert("LA" if mode == "La" else "RGBA"))
    else:
        array = np.asarray(image.convert("RGB"))
    return array[:, :, None] if array.ndim == 2 else array


def as_uint16(array: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Integers as uint16; `UnusableImageError` if one does not fit."""
    if array.min() < 0 or array.max() > 65535:
        raise UnusableImageError(f"holds integers beyond 16 bits: from {array.min()} to {array.max()}")
    return array.astype(np.uint16)


def refuse_non_finite(array: npt.NDArray[Any]) -> None:
    """Raise `UnusableImageError` if a float image holds NaN or infinity."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UnusableImageError(NON_FINITE)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise UnusableImageError("is in LAB colours, which could not be converted")
    return converted


def reason(error: Exception, *, empty: bool = False) -> str:
    """An exception as the reason of a rejection."""
    if isinstance(error, FileNotFoundError):
        return "is not there any more, or is a broken link"
    if isinstance(error, MemoryError):
        return "needs more memory than there is"
    if isinstance(error, UnidentifiedImageError):
        return "is empty (0 bytes)" if empty else "is not an image in a format that Pillow decodes"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    return f"cannot be decoded: {error or type(error).__name__}"
