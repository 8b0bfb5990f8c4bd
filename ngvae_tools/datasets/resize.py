"""Bring an image to another size, by Pillow's antialiased bicubic filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import numpy.typing as npt

    from ngvae_tools.contract import Resize

_Box = tuple[float, float, float, float]


def resize_image(image: npt.NDArray[Any], size: tuple[int, int], how: Resize) -> npt.NDArray[Any]:
    """Resize an image (H, W, C) to (height, width, C), in its own dtype.

    Every channel is filtered alone: a fourth channel is not taken for transparency. uint8 and uint16 are
    rounded and clipped to their range; float32 is clipped to the channel's own range, which a bicubic filter
    overshoots.

    Args:
        image: (H, W, C), uint8, uint16 or float32, finite.
        size: Height and width wanted, in pixels.
        how: "stretch" ignores the aspect ratio; "crop" keeps it and cuts what stands out; "pad" keeps it and
            fills up with zeros; both centred.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    if how == "stretch":
        return _filtered(image, size, (0, 0, width, height))
    if how == "crop":
        scale = max(size[0] / height, size[1] / width)
        top, left = (height - size[0] / scale) / 2, (width - size[1] / scale) / 2
        # Rounding may put an edge a hair outside, which Pillow refuses.
        box = (
            max(left, 0.0),
            max(top, 0.0),
            min(width - left, float(width)),
            min(height - top, float(height)),
        )
        return _filtered(image, size, box)
    scale = min(size[0] / height, size[1] / width)
    inner = (min(max(round(height * scale), 1), size[0]), min(max(round(width * scale), 1), size[1]))
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    padded = np.zeros((*size, image.shape[2]), image.dtype)
    padded[top : top + inner[0], left : left + inner[1]] = _filtered(image, inner, (0, 0, width, height))
    return padded


def _filtered(image: npt.NDArray[Any], size: tuple[int, int], box: _Box) -> npt.NDArray[Any]:
    """The part `box` (left, top, right, bottom) of an image, filtered to `size` (height, width)."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(_bicubic(np.ascontiguousarray(image), size, box))
    return np.stack([_channel(image[:, :, k], size, box) for k in range(image.shape[2])], axis=2)


def _channel(plane: npt.NDArray[Any], size: tuple[int, int], box: _Box) -> npt.NDArray[Any]:
    if plane.dtype == np.uint8:
        return np.asarray(_bicubic(np.ascontiguousarray(plane), size, box))
    wide: npt.NDArray[Any] = np.asarray(_bicubic(plane.astype(np.float32), size, box))
    if plane.dtype == np.uint16:
        rounded: npt.NDArray[Any] = np.clip(np.rint(wide), 0, 65535)
        return rounded.astype(np.uint16)
    clipped: npt.NDArray[Any] = np.clip(wide, plane.min(), plane.max())
    return clipped


def _bicubic(array: npt.NDArray[Any], size: tuple[int, int], box: _Box) -> Image.Image:
    return Image.fromarray(array).resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)
