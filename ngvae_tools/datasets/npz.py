"""Images in an .npz file of NumPy: dSprites, MPI3D, or a user's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.arrays import npz_array, npz_names, unreadable
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.factors import NPZ_LABELS, read_factors
from ngvae_tools.datasets.inflating import SPAN, PlainBytes, TruncatedError
from ngvae_tools.datasets.published import MPI3D, by_position, is_binary, mpi3d_grid
from ngvae_tools.datasets.rows import RowImages
from ngvae_tools.datasets.slabs import GUESSED_KEYS
from ngvae_tools.factors import Factors

if TYPE_CHECKING:
    import os

    import numpy.typing as npt


class NpzImages(RowImages):
    """The images of one array, (N, H, W) or (N, H, W, C), numbered by row.

    An array that is stored plain is read where it lies; a deflated one is inflated as it is read, see
    `DeflatedBytes`. dSprites' images hold 0 and 1, which become 0 and 255; MPI3D's may lie in their grid.

    Args:
        path: The .npz file.
        dataset_key: The array's name; None: images, imgs, x or data.
        image_shape: See `RowImages`.
        dtype: See `RowImages`.
        resize: See `RowImages`.

    Raises:
        DatasetError: The file or its array cannot be used, or does not have the expected shape and dtype.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["npz"] = "npz"
    path: Path

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        dataset_key: str | None = None,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        names = npz_names(self.path)
        key = next((name for name in GUESSED_KEYS if name in names), None) if dataset_key is None else dataset_key
        if key not in names:
            wanted = " or ".join(GUESSED_KEYS) if key is None else repr(key)
            raise unreadable(self.path, f"an array {wanted}", ", ".join(names) or "no array")
        self.key = key
        array = npz_array(self.path, key)
        self._grid = mpi3d_grid(array.shape, array.dtype)
        self._array = array
        if len(array.shape) > 4 and self._grid is not None:
            shape = (math.prod(self._grid), *array.shape[-3:])
            self._array = type(array)(shape, array.dtype, array.source, array.offset)
        self._settle(self._array.shape, self._array.dtype)
        self._labelled = NPZ_LABELS in names
        if not isinstance(array.source, PlainBytes):
            self.chunk_rows = max(SPAN // self.row_bytes, 1)
        try:
            self._binary = self._labelled and is_binary(self._array.rows, len(self))
        except TruncatedError as error:
            raise unreadable(self.path, f"images under {key}", str(error)) from error

    def factors(self) -> Factors | None:
        """DSprites' `latents_values`, or MPI3D's factors by position; None for other files."""
        if self._labelled:
            return read_factors(self.path, rows=len(self))
        return None if self._grid is None else by_position(MPI3D, self._grid)

    def _release(self) -> None:
        pass

    def _read_rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        images, bad = self._array.usable_rows(start, stop)
        if self._binary:
            images *= np.uint8(255)
        return images, bad
