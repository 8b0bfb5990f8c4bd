"""Images in one dataset of an HDF5 file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets import slabs
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.factors import read_factors
from ngvae_tools.datasets.published import is_binary
from ngvae_tools.datasets.rows import RowImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import Factors

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

_MIN_CACHE = 64 * 2**20
_MAX_CACHE = 512 * 2**20


class HDF5Images(RowImages):
    """The images of one dataset, (N, H, W) or (N, H, W, C), numbered by row.

    dSprites' own HDF5 file holds 0 and 1, which become 0 and 255.

    Args:
        path: The HDF5 file, or its URL.
        dataset_key: The dataset's name, "group/x" for nested ones; None: images, imgs, x or data.
        image_shape: (H, W, C) that every sample shall have; None: as stored.
        dtype: The dtype that is expected; nothing is converted.
        resize: How images are brought to `image_shape`; None: a stored shape that differs is an error.

    Raises:
        DatasetError: The file or its dataset cannot be used, or does not have the expected shape and dtype.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["hdf5"] = "hdf5"

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
        self._file: Any = None
        self._dataset: Any = None
        with slabs.open_file(self.path) as file:
            self.key, dataset = slabs.find_images(file, dataset_key)
            # An empty dataset has no shape.
            self._settle(tuple(int(n) for n in dataset.shape or ()), dataset.dtype)
            if dataset.id.get_storage_size() == 0:
                raise DatasetError(
                    f"{self._where} holds no image",
                    expected="at least one stored image",
                    found=f"shape {dataset.shape}, none of it ever written",
                    remedy="write images to it, or name another dataset with --dataset-key",
                )
            # One layer of chunks: the next block may begin in the chunk where the last one ended.
            chunks = dataset.chunks or dataset.shape
            layer = chunks[0] * math.prod(self._stored) * self.dtype.itemsize
            self.chunk_rows: int = dataset.chunks[0] if dataset.chunks else 1
            count = math.prod(-(-n // c) for n, c in zip(dataset.shape[1:], chunks[1:], strict=True))
            self._binary = slabs.find(file, "latents/values") is not None and is_binary(
                lambda start, stop: np.asarray(dataset[start:stop]), self._length
            )
        self._cache = {
            "rdcc_nbytes": min(max(2 * layer, _MIN_CACHE), _MAX_CACHE),
            "rdcc_nslots": min(max(101 * count, 10_007), 1_000_003),
        }

    def factors(self) -> Factors | None:
        """The labels in the file, see `read_factors`."""
        return read_factors(self.path, rows=len(self))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_file": None, "_dataset": None}

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._dataset = None

    def _read_rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        bad: dict[int, str] = {}
        if self._dataset is None:
            self._file = slabs.open_file(self.path, **self._cache)
            self._dataset = slabs.find_images(self._file, self.key)[1]
        try:
            images = np.asarray(self._dataset[start:stop])
        except OSError:
            images = np.zeros((stop - start, *self._dataset.shape[1:]), self.dtype)
            for row in range(start, stop):
                try:
                    images[row - start] = self._dataset[row]
                except OSError as error:
                    bad[row] = f"cannot be read: {error}"
        if self._binary:
            images *= 255
        return images, bad
