"""What all data sets that lie somewhere have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageShape, check_request
from ngvae_tools.datasets.places import location_of, place_of

if TYPE_CHECKING:
    import numpy.typing as npt


class StoredImages:
    """Images at a place, and what a caller asks of them.

    Args:
        path: The file or folder, or its URL.
        image_shape: (H, W, C) that every sample shall have; None: as found.
        dtype: uint8, uint16 or float32, as every sample shall be; None: as found.
        resize: How images of another size are brought to `image_shape`.

    Raises:
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    chunk_rows: int = 1
    """Images that are read together at least: whoever wants one costs all of them."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None,
        dtype: npt.DTypeLike | None,
        resize: Resize | None,
    ) -> None:
        self._expected = check_request(image_shape, dtype, resize)
        self._wanted = image_shape
        self.path = place_of(path)
        self.resize = resize

    @property
    def location(self) -> str:
        """The absolute path, or the URL less its password and query."""
        return location_of(self.path)

    @property
    def shape_from(self) -> str | None:
        """Identifier of the image whose shape and dtype all must have; None: they were asked for, or the file's own."""
        return None

    @property
    def preferred_rows(self) -> int:
        """Rows to cut shards by: a range that begins and ends at multiples of it reads nothing twice."""
        return self.chunk_rows

    def layout_advice(self) -> str | None:
        """A sentence for users whose data are slow to read, and how to write them again; None: they are not."""
        return None

    def close(self) -> None:
        """Release what is open; reading again opens it again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
