"""Images in a folder on object storage, one object each."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageShape, evenly_spaced
from ngvae_tools.datasets.decode import UnusableImageError, suffixes
from ngvae_tools.datasets.encoded import MAX_ENCODED, Encoded, NamedImages
from ngvae_tools.datasets.listing import relative
from ngvae_tools.datasets.sources import batched, reason_of
from ngvae_tools.datasets.storage import Storage
from ngvae_tools.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

FINGERPRINT_FILES = 64

_UNKNOWN = 2**20


class RemoteFolderImages(NamedImages):
    """The image files below a folder behind a URL, known and numbered as `FolderImages` does with a local copy.

    Whole objects are read, up to 64 at a time. An object that is gone or may not be read is rejected; a storage
    that fails ends the reading.

    Args:
        path: The folder's URL.
        image_shape: See `EncodedImages`.
        dtype: See `EncodedImages`.
        resize: See `EncodedImages`.
        found: The listing, where it is known.

    Raises:
        DatasetError: The storage does not answer, or no object has an image's suffix.
        MissingDependencyError: See `Storage`.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["folder"] = "folder"

    def __init__(
        self,
        path: str,
        *,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
        found: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        self._storage = Storage(path)
        root = self._storage.root
        others: Counter[str] = Counter()
        named: list[tuple[bytes, int]] = []
        for name, about in (self._storage.find(root) if found is None else found).items():
            own = relative(name, root)
            if own is None:
                continue
            suffix = os.path.splitext(own)[1].lower()  # noqa: PTH122
            if suffix in suffixes():
                size = about.get("size")
                named.append((os.fsencode(own), -1 if size is None else int(size)))
            else:
                others[suffix] += 1
        if not named:
            kinds = ", ".join(f"{n} x {suffix or 'no suffix'}" for suffix, n in others.most_common(5))
            raise DatasetError(
                f"the folder {self.location} holds no image",
                expected="files ending in .png, .jpg, .tif or another suffix that Pillow opens",
                found=f"{others.total()} other files ({kinds})" if others else "no file at all",
                remedy="name a folder with images",
            )
        named.sort()
        self._names = [name for name, _ in named]
        self._sizes = np.array([size for _, size in named], np.int64)

    def fingerprint(self) -> str:
        """The same as that of a local copy, see `FolderImages.fingerprint`; what the listing says counts as size."""
        digest = hashlib.sha256(b"ngvae-tools folder 1\0")
        for number, name in enumerate(self._names):
            size = int(self._sizes[number])
            if size < 0:
                size = int(self._storage.info(self._path(number)).get("size") or 0)
            digest.update(b"%s\0%d\0" % (name, size))
        for number in evenly_spaced(len(self), FINGERPRINT_FILES):
            (data,) = self._storage.read_many([(self._path(number), None, None)])
            if isinstance(data, Exception):
                digest.update(type(data).__name__.encode() + b"\0")
            else:
                digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()

    def _path(self, number: int) -> str:
        return f"{self._storage.root.rstrip('/')}/{self._name(number)}"

    def _load(self, start: int, stop: int) -> Iterator[Encoded]:
        sizes = self._sizes[start:stop].tolist()
        guessed = [_UNKNOWN if size < 0 else min(size, MAX_ENCODED) for size in sizes]
        for numbers in batched(range(start, stop), guessed):
            fits = [number for number in numbers if self._sizes[number] <= MAX_ENCODED]
            read = iter(self._storage.read_many([(self._path(number), None, None) for number in fits]))
            for number in numbers:
                size = int(self._sizes[number])
                if size > MAX_ENCODED:
                    yield UnusableImageError(f"has {size:,} bytes, more than the safe {MAX_ENCODED:,}")
                    continue
                data = next(read)
                yield UnusableImageError(reason_of(data)) if isinstance(data, Exception) else data
