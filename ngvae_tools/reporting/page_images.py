"""Images inside a page: sheets of frames as data URIs, and how coarse they must be to stay below a size."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from ngvae_tools.reporting.pictures import Bytes

PIXELATED_BELOW = 97
"""Pixels of the shorter side; images smaller than that are shown with their pixels as they are."""


class TooLargeError(Exception):
    """The images made so far take more than the budget."""


@dataclass(frozen=True, slots=True)
class Fineness:
    """How good the images of a page are.

    Attributes:
        quality: Of WebP, 1 to 100; None: PNG, which loses nothing.
        side: Most pixels of an image's longer side; None: as they come.
        stride: Every how many frames of a traversal are shown; the first, the middle and the last always are.
        most: Most dimensions of which there are images; None: all.
        mapped: Whether there is room for the map.
    """

    quality: int | None = None
    side: int | None = None
    stride: int = 1
    most: int | None = None
    mapped: bool = True


LEVELS = (
    Fineness(),
    Fineness(90),
    Fineness(80, 128),
    Fineness(75, 96),
    Fineness(70, 64),
    Fineness(60, 48),
    Fineness(60, 48, 2),
    Fineness(60, 48, 2, 64),
    Fineness(50, 32, 2, 24),
    Fineness(75, 96, mapped=False),
    Fineness(60, 48, 2, 64, mapped=False),
    Fineness(50, 32, 2, 12, mapped=False),
)
"""From the best to the smallest."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Frames of one size side by side in one image.

    Attributes:
        uri: The image as a data URI.
        count: Number of frames.
        columns: Frames in a row.
        rows: Rows of frames.
        width: Pixels of one frame.
        height: The same.
    """

    uri: str
    count: int
    columns: int
    rows: int
    width: int
    height: int

    @property
    def pixelated(self) -> bool:
        """Whether the frames are so small that they are shown larger than they are."""
        return min(self.width, self.height) < PIXELATED_BELOW


class Press:
    """Makes sheets until the budget is spent.

    Args:
        fineness: How good they are.
        budget: Bytes that all of them may take together, as they stand in the page.

    Attributes:
        fineness: The same.
        left: Bytes that are left.
    """

    def __init__(self, fineness: Fineness, budget: int) -> None:
        self.fineness = fineness
        self.left = budget

    def spend(self, size: int) -> None:
        """Count bytes of the page that are not an image.

        Raises:
            TooLargeError: The budget is spent.
        """
        self.left -= size
        if self.left < 0:
            raise TooLargeError

    def strip(self, frames: Bytes) -> Sheet:
        """All frames in one row.

        Args:
            frames: Shape (F, h, w, c), uint8.

        Raises:
            TooLargeError: The budget is spent.
        """
        return self._sheet(frames, len(frames))

    def grid(self, frames: Bytes) -> Sheet:
        """All frames in rows that make the sheet about square.

        Raises:
            TooLargeError: The budget is spent.
        """
        return self._sheet(frames, math.ceil(math.sqrt(len(frames))))

    def _sheet(self, frames: Bytes, columns: int) -> Sheet:
        small = resized(frames, self.fineness.side)
        count, height, width, _ = small.shape
        rows = math.ceil(count / columns)
        uri = data_uri(joined(small, columns), self.fineness.quality)
        self.spend(len(uri))
        return Sheet(uri, count, columns, rows, width, height)


def joined(frames: Bytes, columns: int) -> Bytes:
    """Frames (F, h, w, c) as one image (rows * h, columns * w, c), black where the last row is not full."""
    import numpy as np

    count, height, width, channels = frames.shape
    rows = math.ceil(count / columns)
    full = np.zeros((rows * columns, height, width, channels), np.uint8)
    full[:count] = frames
    lines = full.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return lines.reshape(rows * height, columns * width, channels)


def resized(frames: Bytes, side: int | None) -> Bytes:
    """Frames whose longer side has at most so many pixels, by area averages."""
    import numpy as np
    from PIL.Image import Resampling

    height, width = frames.shape[1:3]
    if side is None or max(height, width) <= side:
        return frames
    size = (max(1, round(width * side / max(height, width))), max(1, round(height * side / max(height, width))))
    small = [np.asarray(_image(frame).resize(size, Resampling.BOX)) for frame in frames]
    return np.stack(small).reshape(len(frames), size[1], size[0], frames.shape[3])


def data_uri(image: Bytes, quality: int | None) -> str:
    """An image (h, w, c) as the text of a data URI, PNG without a quality, else WebP."""
    buffer = io.BytesIO()
    if quality is None:
        _image(image).save(buffer, "PNG", optimize=True)
    else:
        _image(image).save(buffer, "WEBP", quality=quality, method=2)
    kind = "png" if quality is None else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _image(array: Bytes) -> Image:
    from PIL.Image import fromarray

    return fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def kept_frames(values: Sequence[float], change: Sequence[float], stride: int) -> npt.NDArray[np.intp]:
    """Which frames of a traversal are shown: every so many, with the first, the last and the one in the middle.

    Args:
        values: Of z, one a frame.
        change: Of the image against the middle frame, one a frame; its smallest marks that frame.
        stride: Every how many.
    """
    import numpy as np

    chosen = {*range(0, len(values), stride), len(values) - 1, middle(change)}
    return np.asarray(sorted(chosen))


def middle(change: Sequence[float]) -> int:
    """The frame that the others are compared with: it alone does not differ from itself."""
    centre = len(change) // 2
    return min(range(len(change)), key=lambda i: (change[i], abs(i - centre)))
