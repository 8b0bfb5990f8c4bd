"""Images in a folder and its subfolders, one file each."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import (
    ImageShape,
    Rejection,
    Samples,
    advice_on_dtype,
    check_range,
    check_request,
    describe,
    evenly_spaced,
)
from ngvae_tools.datasets.decode import UnusableImageError, decode_file
from ngvae_tools.datasets.places import location_of
from ngvae_tools.datasets.resize import resize_image
from ngvae_tools.datasets.scan import scan_folder
from ngvae_tools.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

FINGERPRINT_FILES = 64


class FolderImages:
    """The image files below a folder, numbered by the bytes of their relative paths.

    Args:
        path: The folder.
        image_shape: (H, W, C) that every sample shall have; None: as the first readable image.
        dtype: uint8, uint16 or float32; None: as the first readable image.
        resize: How images of another size are brought to `image_shape`; None: they are rejected.

    Raises:
        DatasetError: The folder cannot be read, or no file in it has an image's suffix.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["folder"] = "folder"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        self._dtype = self._expected = check_request(image_shape, dtype, resize)
        self._shape = image_shape
        self.path = Path(path)
        self._root = os.path.join(os.fsencode(self.path), b"")  # noqa: PTH118 (bytes, which pathlib does not take)
        self.resize = resize
        try:
            found = scan_folder(self.path)
        except OSError as error:
            raise DatasetError(
                f"the folder {self.path} cannot be read",
                expected="a folder that can be listed with all its subfolders",
                found=f"{error.strerror}: {os.fsdecode(error.filename or self.path)}",
                remedy="correct its permissions or name another folder",
            ) from error
        if not found.images:
            others = ", ".join(f"{n} x {suffix or 'no suffix'}" for suffix, n in found.others.most_common(5))
            raise DatasetError(
                f"the folder {self.path} holds no image",
                expected="files ending in .png, .jpg, .tif or another suffix that Pillow opens",
                found=f"{found.others.total()} other files ({others})" if others else "no file at all",
                remedy="name a folder with images",
            )
        self._names = found.images

    def __len__(self) -> int:
        return len(self._names)

    @property
    def location(self) -> str:
        """The absolute path."""
        return location_of(self.path)

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

    def read(self, start: int, stop: int) -> tuple[Samples, list[Rejection]]:
        """The usable and the rejected images with start <= index < stop; together they are stop - start."""
        check_range(start, stop, len(self))
        images = np.empty((stop - start, *self.image_shape), self.dtype)
        index: list[int] = []
        rejections: list[Rejection] = []
        for number in range(start, stop):
            try:
                row = images[len(index)]
                image = decode_file(self._file(number), row)
                if image is not row:
                    row[...] = self._fitting(image)
            except UnusableImageError as error:
                rejections.append(Rejection(number, os.fsdecode(self._names[number]), str(error)))
            else:
                index.append(number)
        return Samples(np.array(index, np.int64), images[: len(index)]), rejections

    def identifiers(self, start: int, stop: int) -> npt.NDArray[np.bytes_]:
        """Relative paths of a range with "/", as bytes."""
        check_range(start, stop, len(self))
        return np.array(self._names[start:stop], dtype=np.bytes_)

    def factors(self) -> None:
        """None: a folder's labels lie in a file of their own."""

    def fingerprint(self) -> str:
        """SHA-256 of every relative path and file size, and of the bytes of up to 64 evenly spaced files.

        It misses a change inside any other file that keeps the file's size.
        """
        digest = hashlib.sha256(b"ngvae-tools folder 1\0")
        for number, name in enumerate(self._names):
            try:
                size = str(os.stat(self._file(number)).st_size)  # noqa: PTH116
            except OSError as error:
                size = type(error).__name__
            digest.update(b"%s\0%s\0" % (name, size.encode()))
        for number in evenly_spaced(len(self), FINGERPRINT_FILES):
            try:
                with open(self._file(number), "rb") as file:  # noqa: PTH123
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                digest.update(type(error).__name__.encode() + b"\0")
        return digest.hexdigest()

    def close(self) -> None:
        """Nothing stays open between two reads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _file(self, number: int) -> bytes:
        return self._root + self._names[number]

    def _fitting(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image in the expected shape and dtype; `UnusableImageError` if it cannot be brought to it."""
        expected = self.image_shape
        fits = image.dtype == self.dtype and image.shape[2] == expected[2]
        if fits and self.resize is not None:
            return resize_image(image, expected[:2], self.resize)
        if fits and image.shape == expected:
            return image
        advice = ""
        if fits:
            advice = "; --resize brings images to one size"
        elif self._expected is not None and image.dtype != self._expected:
            advice = f"; {advice_on_dtype(self._expected, image.dtype)}"
        raise UnusableImageError(
            f"has {describe(image.shape, image.dtype)}; expected {describe(expected, self.dtype)}{advice}"
        )

    def _look_up(self) -> None:
        # Two threads may do this at once: they come to the same answer.
        first = None
        for number in range(len(self)):
            try:
                image = decode_file(self._file(number))
            except UnusableImageError as error:
                first = first or f"{os.fsdecode(self._names[number])!r} {error}"
                continue
            height, width, channels = image.shape
            self._shape = self._shape or (height, width, channels)
            self._dtype = self._dtype or image.dtype
            return
        raise DatasetError(
            f"no image in the folder {self.path} is readable",
            expected="at least one image that can be decoded",
            found=f"{len(self)} that cannot, the first: {first}",
            remedy="check the files or name another folder",
        )
