"""Rows of a contiguous HDF5 dataset, read by any number of threads at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ngvae_tools.datasets.chunk_layout import is_plain
from ngvae_tools.files import FileBytes

if TYPE_CHECKING:
    import numpy.typing as npt


class ContiguousRows:
    """Rows of one dataset whose bytes lie one after the other; none of HDF5's own state is used.

    Args:
        shape: The dataset's shape (N, ...).
        dtype: As stored.
        offset: Where it begins in the file.
        file: The file.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int, file: FileBytes) -> None:
        self._shape, self._dtype, self._offset, self._file = shape, dtype, offset, file
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    @classmethod
    def of(cls, dataset: Any, file: FileBytes) -> Self | None:
        """Those of a dataset; None: it is not contiguous, not stored, or not where HDF5 says it is."""
        offset = dataset.id.get_offset()
        if dataset.chunks is not None or offset is None or not is_plain(dataset):
            return None
        rows = cls(tuple(int(n) for n in dataset.shape), dataset.dtype, int(offset), file)
        for row in (0, len(dataset) - 1):
            images, bad = rows.rows(row, row + 1)
            try:
                if not bad and images[0, 0].tobytes() != dataset[row, 0].tobytes():
                    return None
            except OSError:
                return None
        return rows

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """Rows as stored, any values where they cannot be read, and the reasons of those."""
        images = np.empty((stop - start, *self._shape[1:]), self._dtype)
        there, reason = self._read(start, images)
        if there == len(images):
            return images, {}
        if reason is None:
            return images, dict.fromkeys(range(start + there, stop), "cannot be read: the file ends before")
        bad = {}
        for row in range(start, stop):
            there, reason = self._read(row, images[row - start : row - start + 1])
            if there == 0:
                bad[row] = f"cannot be read: {reason or 'the file ends before'}"
        return images, bad

    def _read(self, start: int, images: npt.NDArray[Any]) -> tuple[int, str | None]:
        """Number of whole rows read, and what went wrong."""
        try:
            done = self._file.read_into(self._offset + start * self._row_bytes, images.reshape(-1).view(np.uint8))
        except OSError as error:
            return 0, error.strerror or str(error)
        return done // self._row_bytes, None
