"""Images made small for a page."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import InputScale
from ngvae_tools.workflows.image_files import to_bytes

Bytes = npt.NDArray[np.uint8]


def scaled(samples: npt.NDArray[np.generic], scale: InputScale) -> npt.NDArray[np.float32]:
    """Samples of a data set as values in [0, 1]."""
    values = (samples.astype(np.float32) - np.float32(scale.low)) / np.float32(scale.high - scale.low)
    return np.asarray(np.clip(values, 0, 1))


def shown(channels: int) -> int:
    """Channels that are shown of an image: 1 as grey, or 3 as RGB."""
    return 3 if channels >= 3 else 1


def said_of_channels(channels: int) -> str | None:
    """A sentence where not all channels of an image are shown."""
    if channels in {1, 3}:
        return None
    which = "the first channel is shown, as grey" if channels == 2 else "the first three channels are shown, as RGB"
    return f"The images have {channels} channels; {which}."


def small_shape(shape: tuple[int, ...], longest: int) -> tuple[int, int, int]:
    """(h, w, c) of an image (H, W, C) as it is shown: divided by the least whole number that makes it fit."""
    height, width, channels = shape
    factor = -(-max(height, width) // longest)
    return max(1, round(height / factor)), max(1, round(width / factor)), shown(channels)


def small(images: npt.NDArray[np.float32], longest: int) -> Bytes:
    """Images (n, H, W, C) of values in [0, 1], clipped, as uint8 (n, h, w, c), at most `longest` pixels a side.

    Pixels are averaged over squares; an image that is small enough stays as it is.
    """
    from PIL import Image

    height, width, channels = small_shape(images.shape[1:], longest)
    whole = to_bytes(images[..., :channels])
    if whole.shape[1:3] == (height, width):
        return whole
    found = np.empty((len(whole), height, width, channels), np.uint8)
    for image, into in zip(whole, found, strict=True):
        picture = Image.fromarray(image[:, :, 0] if channels == 1 else np.ascontiguousarray(image))
        reduced = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
        into[...] = reduced.reshape(height, width, channels)
    return found
