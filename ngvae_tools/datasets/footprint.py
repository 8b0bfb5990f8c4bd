"""What images take as PNG and JPEG, from a few of them: what their latents are compared with."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.datasets.base import Samples

SAMPLE_IMAGES = 64
"""Images of a data set that are written as PNG and JPEG."""

SAMPLE_BYTES = 32 * 2**20
"""Their samples' bytes at most, if four images take less."""

JPEG_QUALITY = 90

_PNG_MODES = {("uint8", 1): "L", ("uint8", 2): "LA", ("uint8", 3): "RGB", ("uint8", 4): "RGBA", ("uint16", 1): "I;16"}
_JPEG_MODES = ("L", "RGB")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of some images, all together.

    Attributes:
        images: How many they are.
        raw: As they are in memory.
        png: As PNG; None where their type has none.
        jpeg: As JPEG of quality 90; None where their type has none.
    """

    images: int = 0
    raw: int = 0
    png: int | None = 0
    jpeg: int | None = 0

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(
            self.images + other.images, self.raw + other.raw, _sum(self.png, other.png), _sum(self.jpeg, other.jpeg)
        )


def footprint_of(samples: Samples, length: int) -> Footprint:
    """The footprint of those images of a range that belong to the sample.

    Args:
        samples: Images of the range.
        length: Images of the data set; the sample is spread evenly over it, so it is the same however it is read.
    """
    if not len(samples):
        return Footprint()
    room = max(4, min(SAMPLE_IMAGES, SAMPLE_BYTES // samples.images[0].nbytes))
    chosen = samples.images[samples.index % -(-length // room) == 0]
    mode = _PNG_MODES.get((chosen.dtype.name, chosen.shape[3]))
    return Footprint(
        len(chosen),
        chosen.nbytes,
        None if mode is None else sum(_size(image, mode, "PNG") for image in chosen),
        sum(_size(image, mode, "JPEG", quality=JPEG_QUALITY) for image in chosen) if mode in _JPEG_MODES else None,
    )


def _size(image: npt.NDArray[Any], mode: str, kind: str, **options: int) -> int:
    from PIL import Image

    pixels = np.ascontiguousarray(image if image.shape[2] > 1 else image[:, :, 0])
    data = io.BytesIO()
    Image.frombytes(mode, (image.shape[1], image.shape[0]), pixels.tobytes()).save(data, kind, **options)
    return len(data.getvalue())


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
