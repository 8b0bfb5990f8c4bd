"""Images in one dataset of an HDF5 file."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets import slabs
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.chunk_layout import ChunkLayout
from ngvae_tools.datasets.chunk_table import ChunkTable
from ngvae_tools.datasets.chunked import ChunkedRows
from ngvae_tools.datasets.contiguous import ContiguousRows
from ngvae_tools.datasets.factors import read_factors
from ngvae_tools.datasets.layout_advice import advice
from ngvae_tools.datasets.published import is_binary
from ngvae_tools.datasets.rows import RowImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import Factors
from ngvae_tools.files import FileBytes

if TYPE_CHECKING:
    import numpy.typing as npt

_MIN_CACHE = 64 * 2**20
_MAX_CACHE = 512 * 2**20


class HDF5Images(RowImages):
    """The images of one dataset, (N, H, W) or (N, H, W, C), numbered by row.

    Threads read contiguous datasets, and chunked ones that are plain or went through shuffle, gzip, lzf and fletcher32,
    at once, without HDF5's lock; all others one at a time, through h5py. See `ChunkedRows` for what is kept in memory.

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
        self._direct: ChunkedRows | ContiguousRows | Literal[False] | None = None
        try:
            with slabs.open_file(self.path) as file:
                self._cache = self._look_at(file, dataset_key)
        except (OSError, RuntimeError) as error:
            raise DatasetError(
                f"{self.path} cannot be read",
                expected="an undamaged HDF5 file",
                found=str(error),
                remedy="check the file, or write it again",
            ) from error

    def _look_at(self, file: Any, dataset_key: str | None) -> dict[str, int]:
        """Find the images and how they lie; the options of a file that h5py reads them from."""
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
        self._layout = ChunkLayout.of(dataset)
        self._advice = advice(self.location, self.key, dataset, self._layout)
        self.chunk_rows: int = dataset.chunks[0] if dataset.chunks else 1
        count = math.prod(-(-n // c) for n, c in zip(dataset.shape[1:], chunks[1:], strict=True))
        self._binary = slabs.find(file, "latents/values") is not None and is_binary(
            lambda start, stop: np.asarray(dataset[start:stop]), self._length
        )
        return {
            "rdcc_nbytes": min(max(2 * layer, _MIN_CACHE), _MAX_CACHE),
            "rdcc_nslots": min(max(101 * count, 10_007), 1_000_003),
        }

    def factors(self) -> Factors | None:
        """The labels in the file, see `read_factors`."""
        return read_factors(self.path, rows=len(self))

    def fingerprint(self) -> str:
        """See `RowImages.fingerprint`."""
        try:
            return super().fingerprint()
        finally:
            # Rows from all over: what was decoded for them will not be asked for next.
            if isinstance(reader := self._direct, ChunkedRows):
                reader.cache.clear()

    @property
    def preferred_rows(self) -> int:
        """Rows to cut shards by, `chunk_rows` or fewer: what is decoded and kept at once.

        A thread that reads such a range in consecutive reads decodes it once, provided that all such ranges that
        threads are reading at the time fit into `CACHE_BYTES`; they do when threads take turns in one range.
        """
        return self.chunk_rows if self._layout is None else self._layout.window_rows

    def layout_advice(self) -> str | None:
        """See `StoredImages.layout_advice`."""
        return self._advice

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_file": None, "_dataset": None, "_direct": None}

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._dataset = self._direct = None

    def _read_at_once(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        if (reader := self._direct) is None:
            with self._lock:
                if self._direct is None:
                    self._direct = self._open_direct() or False
                reader = self._direct
        if not reader:
            return super()._read_at_once(start, stop)
        images, bad = reader.rows(start, stop)
        if self._binary:
            images *= 255
        return images, bad

    def _open_direct(self) -> ChunkedRows | ContiguousRows | None:
        """What reads without HDF5; None: the layout, or the machine, does not let it."""
        with slabs.open_file(self.path) as file:
            dataset = slabs.find_images(file, self.key)[1]
            if dataset.shape[:1] != (self._length,) or dataset.dtype.newbyteorder("=") != self.dtype:
                raise DatasetError(
                    f"{self._where} has changed since it was opened",
                    expected=f"{self._length:,} images of {self.dtype}",
                    found=f"shape {dataset.shape} of {dataset.dtype}",
                    remedy="leave the file alone while it is read, and start again",
                )
            if not hasattr(os, "preadv") or not isinstance(self.path, Path):
                return None
            try:
                source = FileBytes(self.path)
            except OSError:
                return None
            if dataset.chunks is None:
                return ContiguousRows.of(dataset, source)
            layout = ChunkLayout.of(dataset)
            table = None if layout is None else ChunkTable.read(dataset, layout, source)
            return None if layout is None or table is None else ChunkedRows(layout, table, source)

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
