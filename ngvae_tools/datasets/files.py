"""Image files that are named one by one, or given as bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.decode import UnusableImageError, read_file
from ngvae_tools.datasets.encoded import Encoded, NamedImages

if TYPE_CHECKING:
    import numpy.typing as npt


class FileImages(NamedImages):
    """Image files, in the order in which they are named; their paths as given are the identifiers.

    Args:
        paths: The files, at least one.
        image_shape: (H, W, C) that every sample shall have; None: as the first readable image.
        dtype: uint8, uint16 or float32; None: as the first readable image.
        resize: How images of another size are brought to `image_shape`; None: they are rejected.

    Raises:
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["folder"] = "folder"

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(Path(paths[0]), image_shape=image_shape, dtype=dtype, resize=resize)
        self._names = [os.fsencode(path) for path in paths]

    def fingerprint(self) -> str:
        """SHA-256 of the bytes of all files."""
        digest = hashlib.sha256()
        for name in self._names:
            data = read_file(name)
            digest.update(b"%d\0" % len(data) + data)
        return digest.hexdigest()

    def _load(self, start: int, stop: int) -> Iterator[Encoded]:
        for name in self._names[start:stop]:
            try:
                yield read_file(name)
            except UnusableImageError as error:
                yield error


class ImageBytes(NamedImages):
    """One encoded image that is in memory.

    Args:
        data: The bytes of its file.
        name: Its identifier.
        image_shape: (H, W, C) that the sample shall have; None: its own.
        dtype: uint8, uint16 or float32; None: its own.
        resize: How it is brought to `image_shape`; None: it is rejected if it has another size.

    Raises:
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["folder"] = "folder"

    def __init__(
        self,
        data: bytes,
        name: str,
        *,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(name, image_shape=image_shape, dtype=dtype, resize=resize)
        self._data = data
        self._names = [os.fsencode(name)]

    def fingerprint(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self._data).hexdigest()

    def _load(self, start: int, stop: int) -> Iterator[Encoded]:
        yield from [self._data][start:stop]
