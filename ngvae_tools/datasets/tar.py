"""Images in tar files, as WebDataset keeps them."""

from __future__ import annotations

import hashlib
import itertools
import os
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageShape, evenly_spaced
from ngvae_tools.datasets.decode import UnusableImageError, suffixes
from ngvae_tools.datasets.encoded import MAX_ENCODED, Encoded, NamedImages
from ngvae_tools.datasets.listing import Listed, files_below
from ngvae_tools.datasets.places import place_of
from ngvae_tools.datasets.tar_headers import Member, walk
from ngvae_tools.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

FINGERPRINT_MEMBERS = 64

_AT_A_TIME = 8


class TarImages(NamedImages):
    """The members of one tar file, or of all below a folder, that have an image's suffix.

    Each is known as "shard.tar/member", and they are numbered by the bytes of that. Folders, devices and names
    that begin with "." do not count. Links, sparse members, paths that lead outside, members beyond the end of
    their file and all but the last of one name are rejected. The headers are read once, here; a file that was cut
    between two members cannot be told from a whole one.

    Args:
        path: The tar file or the folder, or its URL.
        image_shape: See `EncodedImages`.
        dtype: See `EncodedImages`.
        resize: See `EncodedImages`.

    Raises:
        DatasetError: A file cannot be read or its headers are damaged, or no member has an image's suffix.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["tar"] = "tar"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        files = files_below(self.path, ".tar")
        self._sources = [source for _, source in files]
        names: list[bytes] = []
        shards, offsets, sizes = array("q"), array("q"), array("q")
        self._problems: dict[int, str] = {}
        others = 0
        for shard, (images, rest) in enumerate(_indexed(files)):
            others += rest
            for k, (name, member) in enumerate(images):
                again = k + 1 < len(images) and images[k + 1][0] == name
                problem = _problem(member) or ("is followed by a member of the same name" if again else None)
                if problem is not None:
                    self._problems[len(names)] = problem
                names.append(files[shard][0] + b"/" + name)
                shards.append(shard)
                # What lies beyond 64 bits lies beyond the file too.
                offsets.append(min(member.offset, 2**62))
                sizes.append(min(member.size, 2**62))
        if not names:
            raise DatasetError(
                f"{self.location} holds no image",
                expected="tar files with members ending in .png, .jpg, .tif or another suffix that Pillow opens",
                found=f"{others} other members in {len(files)} tar files",
                remedy="name tar files of images",
            )
        self._names = names
        self._shards, self._offsets, self._sizes = (np.array(column, np.int64) for column in (shards, offsets, sizes))

    def fingerprint(self) -> str:
        """SHA-256 of every shard's and member's name and size, and of the bytes of up to 64 evenly spaced members.

        It misses a change inside any other member that keeps its size.
        """
        digest = hashlib.sha256(b"ngvae-tools tar 1\0")
        for name, size in zip(self._names, self._sizes.tolist(), strict=True):
            digest.update(b"%s\0%d\0" % (name, size))
        for number in evenly_spaced(len(self), FINGERPRINT_MEMBERS):
            (data,) = self._load(number, number + 1)
            digest.update(str(data).encode() if isinstance(data, UnusableImageError) else hashlib.sha256(data).digest())
        return digest.hexdigest()

    def _load(self, start: int, stop: int) -> Iterator[Encoded]:
        while start < stop:
            shard = self._shards[start]
            end = int(np.searchsorted(self._shards[start:stop], shard, side="right")) + start
            yield from self._of_one(int(shard), range(start, end))
            start = end

    def _of_one(self, shard: int, numbers: range) -> Iterator[Encoded]:
        usable = [number for number in numbers if number not in self._problems]
        read = self._sources[shard].read_many([(int(self._offsets[n]), int(self._sizes[n])) for n in usable])
        with closing(read):
            for number in numbers:
                if number in self._problems:
                    yield UnusableImageError(self._problems[number])
                    continue
                data = next(read)
                yield data if isinstance(data, bytes) else UnusableImageError(f"cannot be read: {data}")


def holds_images(path: str | os.PathLike[str], tried: int = 64) -> bool:
    """Whether one of the first members of a tar file has an image's suffix. Raises `DatasetError`."""
    ((_, source),) = files_below(place_of(path), ".tar")
    with closing(walk(source)) as members:
        return any(_is_image(member) for member in itertools.islice(members, tried))


def _indexed(files: list[Listed]) -> list[tuple[list[tuple[bytes, Member]], int]]:
    # Waiting for a storage's answers is what takes long.
    with ThreadPoolExecutor(min(_AT_A_TIME, len(files))) as pool:
        return list(pool.map(_index, files))


def _index(file: Listed) -> tuple[list[tuple[bytes, Member]], int]:
    """The image members of a tar file by name, in the order of the file where names are equal; how many others."""
    images = []
    others = 0
    for member in walk(file[1]):
        if _is_image(member):
            images.append((member.name, member))
        else:
            others += 1
    return sorted(images, key=lambda each: each[0]), others


def _is_image(member: Member) -> bool:
    if any(part.startswith(b".") and part != b".." for part in member.name.split(b"/")):
        return False
    return os.path.splitext(os.fsdecode(member.name))[1].lower() in suffixes()  # noqa: PTH122 (names of any kind)


def _problem(member: Member) -> str | None:
    if member.name.startswith(b"/") or b".." in member.name.split(b"/"):
        return "has a path that leads outside its tar file"
    if member.problem is None and member.size > MAX_ENCODED:
        return f"has {member.size:,} bytes, more than the safe {MAX_ENCODED:,}"
    return member.problem
