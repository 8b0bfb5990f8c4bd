"""Images numbered by row, whatever file they lie in."""

from __future__ import annotations

import hashlib
import math
import os
from abc import ABC, abstractmethod
from contextlib import nullcontext
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import (
    DTYPES,
    NON_FINITE,
    ImageShape,
    Rejection,
    Samples,
    advice_on_dtype,
    check_range,
    describe,
    evenly_spaced,
)
from ngvae_tools.datasets.resize import resize_image
from ngvae_tools.datasets.stored import StoredImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import Factors

if TYPE_CHECKING:
    import numpy.typing as npt

FINGERPRINT_ROWS = 64
_MAX_IMAGE_BYTES = 2**30


class RowImages(StoredImages, ABC):
    """Images of one stored shape and dtype; what differs between files is how rows are read.

    The file is opened at the first read of each process, so the object can be pickled and outlives a fork.

    A subclass reads the stored shape and calls `_settle` once, and gives `_read_rows`, `_release` and `factors`.

    Args:
        path: The file or folder, or its URL where the subclass reads from one.
        image_shape: (H, W, C) that every sample shall have; None: as stored.
        dtype: The dtype that is expected; nothing is converted.
        resize: How images are brought to `image_shape`; None: a stored shape that differs is an error.

    Raises:
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["hdf5", "npz", "npy", "zarr", "cars3d", "smallnorb"]
    key: str
    dtype: np.dtype[Any]
    image_shape: ImageShape
    concurrent: bool = False
    """Whether `_read_rows` may be called by several threads at once."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None,
        dtype: npt.DTypeLike | None,
        resize: Resize | None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        self._process = os.getpid()
        self._lock = RLock()

    @abstractmethod
    def factors(self) -> Factors | None:
        """The factors that the file itself gives, a row an image; None: none. Raises `DatasetError`."""

    @abstractmethod
    def _read_rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """Stored rows, (B, H, W) or (B, H, W, C), and the reasons of those that cannot be read (any values)."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of open files; a child process does so with its parent's."""

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
            f"ngvae-tools {self.kind} 1\0{self.key}\0{shape}\0{self.dtype.name}\0".encode(errors="surrogateescape")
        )
        for row in evenly_spaced(self._length, FINGERPRINT_ROWS):
            images, bad = self._rows(row, row + 1)
            little = images.astype(self.dtype.newbyteorder("<"), copy=False)
            digest.update(b"unreadable" if bad else little.tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        with self._lock:
            self._release()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._process = os.getpid()
        self._lock = RLock()

    def _rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """Rows as (B, H, W, C) in native byte order, and the reasons of those that cannot be read."""
        if self._process != os.getpid():
            # A child process must not use its parent's handle, nor a lock that a thread of the parent held.
            self._lock = RLock()
            self._release()
            self._process = os.getpid()
        images, bad = self._read_at_once(start, stop)
        return images.astype(self.dtype, copy=False).reshape(stop - start, *self._stored), bad

    def _read_at_once(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """`_read_rows`, by one thread at a time; a subclass may do better."""
        with nullcontext() if self.concurrent else self._lock:
            return self._read_rows(start, stop)

    def _settle(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Take the stored shape (N, H, W) or (N, H, W, C) and dtype, and check them against what was asked for."""
        self._stored = self._check(shape, dtype)
        self._length = shape[0]
        self.dtype = dtype.newbyteorder("=")
        self.image_shape = self._wanted or self._stored
        self._check_expected(self._expected)

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored image."""
        return math.prod(self._stored) * self.dtype.itemsize

    @property
    def _where(self) -> str:
        return f"{self.key!r} in {self.path if isinstance(self.path, Path) else self.location}"

    def _check(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ImageShape:
        """The stored image shape (H, W, C)."""
        where = self._where
        if len(shape) not in {3, 4} or 0 in shape[1:] or dtype.newbyteorder("=") not in DTYPES:
            raise DatasetError(
                f"{where} does not hold images",
                expected="(N, H, W) or (N, H, W, C) of uint8, uint16 or float32",
                found=f"{shape} of {dtype}",
                remedy="convert it to one of these, or name another dataset with --dataset-key",
            )
        height, width, channels = stored = (shape[1], shape[2], shape[3] if len(shape) == 4 else 1)
        if shape[0] == 0:
            raise DatasetError(
                f"{where} holds no image",
                expected="at least one stored image",
                found=f"shape {shape}",
                remedy="write images to it, or name another dataset with --dataset-key",
            )
        if height <= 4 < min(width, channels):
            raise DatasetError(
                f"{where} seems to have its channels first",
                expected="(N, H, W, C)",
                found=str(shape),
                remedy="store it with the channels last, for example with numpy.moveaxis(images, 1, 3)",
            )
        if math.prod(stored) * dtype.itemsize > _MAX_IMAGE_BYTES:
            raise DatasetError(
                f"{where} has images that are too large",
                expected="at most 1 GiB an image",
                found=f"shape {shape} of {dtype}",
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
            f"the images of {self._where} do not fit",
            expected=wanted,
            found=describe(self._stored, self.dtype),
            remedy=remedy,
        )
