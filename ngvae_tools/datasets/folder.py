"""Images in a folder and its subfolders, one file each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageShape, evenly_spaced
from ngvae_tools.datasets.decode import UnusableImageError, read_file
from ngvae_tools.datasets.encoded import Encoded, NamedImages
from ngvae_tools.datasets.scan import scan_folder
from ngvae_tools.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

FINGERPRINT_FILES = 64


class FolderImages(NamedImages):
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
        folder = Path(path)
        super().__init__(folder, image_shape=image_shape, dtype=dtype, resize=resize)
        self._root = os.path.join(os.fsencode(folder), b"")  # noqa: PTH118 (bytes, which pathlib does not take)
        try:
            found = scan_folder(folder)
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

    def _load(self, start: int, stop: int) -> Iterator[Encoded]:
        for number in range(start, stop):
            try:
                yield read_file(self._file(number))
            except UnusableImageError as error:
                yield error

    def _file(self, number: int) -> bytes:
        return self._root + self._names[number]
