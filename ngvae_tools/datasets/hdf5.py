"""Images in one dataset of an HDF5 file."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets import slabs
from ngvae_tools.datasets.base import (
    DTYPES,
    NON_FINITE,
    ImageShape,
    Rejection,
    Samples,
    advice_on_dtype,
    check_range,
    check_request,
    describe,
    evenly_spaced,
)
from ngvae_tools.datasets.resize import resize_image
from ngvae_tools.errors import DatasetError

if TYPE_CHECKING:
    import h5py
    import numpy.typing as npt

FINGERPRINT_ROWS = 64
_MIN_CACHE = 64 * 2**20
_MAX_CACHE = 512 * 2**20
_MAX_IMAGE_BYTES = 2**30


class HDF5Images:
    """The images of one dataset, (N, H, W) or (N, H, W, C), numbered by row.

    The file is opened at the first read of each process, so the object can be pickled and outlives a fork.

    Args:
        path: The HDF5 file.
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
        expected = check_request(image_shape, dtype, resize)
        self.path = Path(path)
        self.resize = resize
        self._process = os.getpid()
        self._lock = RLock()
        self._file: Any = None
        self._dataset: Any = None
        with slabs.open_file(self.path) as file:
            self.key, dataset = slabs.find_images(file, dataset_key)
            self._stored = self._check(dataset)
            self.dtype: np.dtype[Any] = dataset.dtype.newbyteorder("=")
            self._length: int = dataset.shape[0]
            # One layer of chunks: the next block may begin in the chunk where the last one ended.
            chunks = dataset.chunks or dataset.shape
            layer = chunks[0] * math.prod(self._stored) * self.dtype.itemsize
            count = math.prod(-(-n // c) for n, c in zip(dataset.shape[1:], chunks[1:], strict=True))
        self._cache = {
            "rdcc_nbytes": min(max(2 * layer, _MIN_CACHE), _MAX_CACHE),
            "rdcc_nslots": min(max(101 * count, 10_007), 1_000_003),
        }
        self.image_shape: ImageShape = image_shape or self._stored
        self._check_expected(expected)

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> tuple[Samples, list[Rejection]]:
        """The usable and the rejected rows with start <= index < stop; together they are stop - start."""
        check_range(start, stop, len(self))
        images, bad = self._rows(start, stop)
        if self.dtype.kind == "f":
            finite = np.isfinite(images).all(axis=(1, 2, 3))
            bad |= {start + int(k): NON_FINITE for k in np.flatnonzero(~finite) if start + int(k) not in bad}
        index = np.arange(start, stop, dtype=np.int64)
        if bad:
            kept = np.array([number not in bad for number in range(start, stop)], bool)
            index, images = index[kept], images[kept]
        if self.resize is not None and self._stored != self.image_shape:
            resized = np.empty((len(images), *self.image_shape), self.dtype)
            for k, image in enumerate(images):
                resized[k] = resize_image(image, self.image_shape[:2], self.resize)
            images = resized
        return Samples(index, images), [Rejection(n, str(n), reason) for n, reason in sorted(bad.items())]

    def identifiers(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Row numbers of a range."""
        check_range(start, stop, len(self))
        return np.arange(start, stop, dtype=np.int64)

    def fingerprint(self) -> str:
        """SHA-256 of the key, shape and dtype, and of up to 64 evenly spaced rows as stored.

        It misses a change in any other row, and stays when the file is only packed in another way.
        """
        shape = (self._length, *self._stored)
        digest = hashlib.sha256(
            f"ngvae-tools hdf5 1\0{self.key}\0{shape}\0{self.dtype.name}\0".encode(errors="surrogateescape")
        )
        for row in evenly_spaced(self._length, FINGERPRINT_ROWS):
            images, bad = self._rows(row, row + 1)
            little = images.astype(self.dtype.newbyteorder("<"), copy=False)
            digest.update(b"unreadable" if bad else little.tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        with self._lock:
            if self._file is not None and self._process == os.getpid():
                self._file.close()
            self._file = self._dataset = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in {"_file", "_dataset", "_lock"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._renew()

    def _renew(self) -> None:
        # A child process must not use its parent's handle, nor a lock that a thread of the parent held.
        self._process = os.getpid()
        self._lock = RLock()
        self._file = self._dataset = None

    def _rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """Rows as (B, H, W, C) in native byte order, and the reasons of those that cannot be read (zeros)."""
        if self._process != os.getpid():
            self._renew()
        shape = (stop - start, *self._stored)
        bad: dict[int, str] = {}
        with self._lock:
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
        return images.astype(self.dtype, copy=False).reshape(shape), bad

    def _check(self, dataset: h5py.Dataset) -> ImageShape:
        """The stored image shape (H, W, C)."""
        where = f"{self.key!r} in {self.path}"
        shape = tuple(int(n) for n in dataset.shape or ())  # an empty dataset has no shape
        if len(shape) not in {3, 4} or 0 in shape[1:] or dataset.dtype.newbyteorder("=") not in DTYPES:
            raise DatasetError(
                f"{where} does not hold images",
                expected="(N, H, W) or (N, H, W, C) of uint8, uint16 or float32",
                found=f"{shape} of {dataset.dtype}",
                remedy="convert it to one of these, or name another dataset with --dataset-key",
            )
        height, width, channels = stored = (shape[1], shape[2], shape[3] if len(shape) == 4 else 1)
        if shape[0] == 0 or dataset.id.get_storage_size() == 0:
            raise DatasetError(
                f"{where} holds no image",
                expected="at least one stored image",
                found=f"shape {shape}, none of it ever written" if shape[0] else f"shape {shape}",
                remedy="write images to it, or name another dataset with --dataset-key",
            )
        if height <= 4 < min(width, channels):
            raise DatasetError(
                f"{where} seems to have its channels first",
                expected="(N, H, W, C)",
                found=str(shape),
                remedy="store it with the channels last, for example with numpy.moveaxis(images, 1, 3)",
            )
        if math.prod(stored) * dataset.dtype.itemsize > _MAX_IMAGE_BYTES:
            raise DatasetError(
                f"{where} has images that are too large",
                expected="at most 1 GiB an image",
                found=f"shape {shape} of {dataset.dtype}",
                remedy="store smaller images",
            )
        return stored

    def _check_expected(self, expected: np.dtype[Any] | None) -> None:
        wanted = describe(self.image_shape, expected or self.dtype)
        if expected is not None and expected != self.dtype:
            remedy = f"{advice_on_dtype(expected, self.dtype)}; nothing is converted silently"
        elif self._stored[2] != self.image_shape[2]:
            remedy = "store the images with as many channels; --resize changes height and width alone"
        elif self._stored != self.image_shape and self.resize is None:
            remedy = "pass --resize stretch, crop or pad to bring images to that size"
        else:
            return
        raise DatasetError(
            f"the images of {self.key!r} in {self.path} do not fit",
            expected=wanted,
            found=describe(self._stored, self.dtype),
            remedy=remedy,
        )
