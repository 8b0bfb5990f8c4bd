"""Images that are kept as encoded files' bytes, wherever these lie: decoded, fitted, resized or rejected."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import (
    ImageShape,
    Rejection,
    Samples,
    advice_on_dtype,
    channels_text,
    check_range,
    describe,
)
from ngvae_tools.datasets.decode import UnusableImageError, decode_bytes
from ngvae_tools.datasets.resize import resize_image
from ngvae_tools.datasets.stored import StoredImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import Factors

if TYPE_CHECKING:
    import numpy.typing as npt

Encoded = bytes | UnusableImageError
"""An encoded image, or why there is none."""

MAX_ENCODED = 2**30
"""Bytes of an encoded image; one of more is not read."""


class EncodedImages(StoredImages, ABC):
    """Encoded images, numbered; what differs is how their bytes are found. Several threads may read at once.

    A subclass gives `__len__`, `identifiers`, `fingerprint`, `_load` and `_name`.

    Args:
        path: The file or folder, or its URL.
        image_shape: (H, W, C) that every sample shall have; None: as the first readable image.
        dtype: uint8, uint16 or float32; None: as the first readable image.
        resize: How images of another size are brought to `image_shape`; None: they are rejected.

    Raises:
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["folder", "tar", "parquet", "arrow"]

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None,
        dtype: npt.DTypeLike | None,
        resize: Resize | None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        self._shape, self._dtype = self._wanted, self._expected
        self._first: int | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def identifiers(self, start: int, stop: int) -> npt.NDArray[Any]:
        """See `ImageDataset`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """See `ImageDataset`."""

    @abstractmethod
    def _load(self, start: int, stop: int) -> Iterator[Encoded]:
        """The bytes of each image of a range in order, or why there are none."""

    @abstractmethod
    def _name(self, number: int) -> str:
        """The identifier of an image as in a rejection."""

    @property
    def image_shape(self) -> ImageShape:
        """(H, W, C) of every sample; `DatasetError` if it must be looked up and no image is readable."""
        if self._shape is None:
            self._look_up()
        assert self._shape is not None
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The samples' dtype; `DatasetError` if it must be looked up and no image is readable."""
        if self._dtype is None:
            self._look_up()
        assert self._dtype is not None
        return self._dtype

    @property
    def shape_from(self) -> str | None:
        """Identifier of the first readable image, whose shape and dtype all must have; None: both were asked for.

        Raises:
            DatasetError: It must be looked up and no image is readable.
        """
        if self._wanted is not None and self._expected is not None:
            return None
        if self._first is None:
            self._look_up()
        assert self._first is not None
        return self._name(self._first)

    @property
    def row_bytes(self) -> int:
        """Bytes of one decoded sample."""
        height, width, channels = self.image_shape
        return height * width * channels * self.dtype.itemsize

    def read(self, start: int, stop: int) -> tuple[Samples, list[Rejection]]:
        """The usable and the rejected images with start <= index < stop; together they are stop - start."""
        check_range(start, stop, len(self))
        images = np.empty((stop - start, *self.image_shape), self.dtype)
        index: list[int] = []
        rejections: list[Rejection] = []
        for number, data in zip(range(start, stop), self._load(start, stop), strict=True):
            try:
                row = images[len(index)]
                image = _decoded(data, row)
                if image is not row:
                    row[...] = self._fitting(image)
            except UnusableImageError as error:
                rejections.append(Rejection(number, self._name(number), str(error)))
            else:
                index.append(number)
        return Samples(np.array(index, np.int64), images[: len(index)]), rejections

    def factors(self) -> Factors | None:
        """None: the images come without known factors."""
        return None

    def _fitting(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image in the expected shape and dtype; `UnusableImageError` if it cannot be brought to it."""
        expected = self.image_shape
        fits = image.dtype == self.dtype and image.shape[2] == expected[2]
        if fits and self.resize is not None:
            return resize_image(image, expected[:2], self.resize)
        if fits and image.shape == expected:
            return image
        height, width, channels = expected
        advice = ""
        if fits:
            fault = f"is of another size than {height} x {width}"
            advice = "; --resize brings images to one size"
        elif image.dtype != self.dtype:
            fault = f"is of type {image.dtype.name} where {self.dtype.name} is expected"
            if self._expected is not None:
                advice = f"; {advice_on_dtype(self._expected, image.dtype)}"
        else:
            fault = f"has {channels_text(image.shape[2])} where {channels} {'is' if channels == 1 else 'are'} expected"
        raise UnusableImageError(
            f"{fault}: {describe(image.shape, image.dtype)}, expected {describe(expected, self.dtype)}{advice}"
        )

    def _look_up(self) -> None:
        # Two threads may do this at once: they come to the same answer.
        first = None
        for number in range(len(self)):
            (data,) = self._load(number, number + 1)
            try:
                image = _decoded(data)
            except UnusableImageError as error:
                first = first or f"{self._name(number)!r} {error}"
                continue
            height, width, channels = image.shape
            self._shape = self._shape or (height, width, channels)
            self._dtype = self._dtype or image.dtype
            self._first = number
            return
        raise DatasetError(
            f"no image in {self.location} is readable",
            expected="at least one image that can be decoded",
            found=f"{len(self)} that cannot, the first: {first}",
            remedy="check the images or name other data",
        )


class NamedImages(EncodedImages):
    """Encoded images that are known and numbered by their relative paths.

    A subclass sets `_names`: paths with "/" as bytes, sorted by bytes.
    """

    _names: Sequence[bytes]

    def __len__(self) -> int:
        return len(self._names)

    def identifiers(self, start: int, stop: int) -> npt.NDArray[np.bytes_]:
        """Relative paths of a range with "/", as bytes."""
        check_range(start, stop, len(self))
        return np.array(self._names[start:stop], dtype=np.bytes_)

    def _name(self, number: int) -> str:
        return os.fsdecode(self._names[number])


def _decoded(data: Encoded, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    if isinstance(data, UnusableImageError):
        raise data
    return decode_bytes(data, out)
