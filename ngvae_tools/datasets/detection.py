"""Tell what lies at a place."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import h5py

from ngvae_tools.datasets.base import Kind
from ngvae_tools.datasets.cars3d import FOLDERS, is_cars3d
from ngvae_tools.datasets.decode import suffixes
from ngvae_tools.datasets.inflating import is_gzip
from ngvae_tools.datasets.listing import relative
from ngvae_tools.datasets.npy import MAGIC
from ngvae_tools.datasets.smallnorb import is_smallnorb
from ngvae_tools.datasets.storage import Storage, unreachable
from ngvae_tools.datasets.tar import holds_images
from ngvae_tools.errors import DatasetError

_SHARDS: dict[str, Kind] = {".tar": "tar", ".parquet": "parquet", ".arrow": "arrow"}
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_STORES = frozenset({"zarr.json", ".zarray", ".zgroup"})
_HEADS: dict[bytes, Kind] = {MAGIC: "npy", b"PAR1": "parquet", b"ARROW1": "arrow", b"\x89HDF\r\n\x1a\n": "hdf5"}


@dataclass(frozen=True, slots=True)
class Remote:
    """What lies behind a URL.

    Attributes:
        kind: Its kind; None: a file that is no data set.
        storage: Where it is.
        files: Of a folder, every file by its path, with what the listing says of it; else empty.
    """

    kind: Kind | None
    storage: Storage
    files: dict[str, dict[str, object]]


def kind_of(path: Path) -> Kind | None:
    """What lies at a path; None: a file that is no data set.

    A folder with images is a folder of images, whatever else it holds.

    Raises:
        OSError: There is nothing, or it cannot be read.
        DatasetError: It is a packed tar file.
    """
    if path.is_dir():
        with os.scandir(path) as entries:
            names = {
                name
                for entry in entries
                if (name := entry.name).endswith((".mat", ".mat.gz")) or name in FOLDERS or name in _STORES
            }
        if path.suffix.lower() == ".zarr" or names & _STORES:
            return "zarr"
        if names and is_smallnorb(path):
            return "smallnorb"
        return "cars3d" if names and is_cars3d(path) else _of_folder(path)
    return _of_file(path)


def remote_kind(url: str) -> Remote:
    """What lies behind a URL; one that ends in "/" is a folder's.

    Raises:
        DatasetError: There is nothing, it cannot be read, or it is a packed tar file.
        MissingDependencyError: See `Storage`.
    """
    storage = Storage(url)
    if not url.endswith("/") and storage.info(storage.root).get("type") != "directory":
        try:
            head = storage.read(storage.root, 0, 512)
        except OSError as error:
            raise unreachable(storage.location, error) from error
        name = storage.root.rpartition("/")[2]
        if name.lower().endswith(_PACKED):
            raise _packed(storage.location)
        return Remote(_of_head(head, name), storage, {})
    files = storage.find(storage.root)
    if not files:
        raise unreachable(storage.location, FileNotFoundError())
    below = [own for name in files if (own := relative(name, storage.root)) is not None]
    top = {name.removeprefix(storage.root).lstrip("/") for name in files}
    if storage.root.rstrip("/").lower().endswith(".zarr") or top & _STORES:
        return Remote("zarr", storage, files)
    return Remote(_of_suffixes(Counter(os.path.splitext(own)[1].lower() for own in below)), storage, files)  # noqa: PTH122


def _of_folder(path: Path) -> Kind:
    """By the first image below a folder; where there is none, by the other files."""
    found: Counter[str] = Counter()
    pending = [os.fspath(path)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif suffix in suffixes():
                    return "folder"
                elif suffix in _SHARDS:
                    found[suffix] += 1
    return _of_suffixes(found)


def _of_suffixes(found: Counter[str]) -> Kind:
    if any(suffix in found for suffix in suffixes()):
        return "folder"
    return next((kind for suffix, kind in _SHARDS.items() if suffix in found), "folder")


def _of_file(path: Path) -> Kind | None:
    with path.open("rb") as file:
        head = file.read(512)
    kind: Kind | None = "npz" if head[:2] == b"PK" else None
    if h5py.is_hdf5(path):
        kind = "hdf5"
    if kind is not None:
        return kind
    kind = "smallnorb" if is_smallnorb(path) else _of_head(head, path.name)
    if kind in {"tar", None} and not (kind == "tar" and _surely_images(path)) and is_cars3d(path):
        return "cars3d"
    if kind is None and (path.name.lower().endswith(_PACKED) or (path.suffix.lower() == ".tar" and is_gzip(path))):
        raise _packed(str(path))
    return kind


def _of_head(head: bytes, name: str) -> Kind | None:
    for magic, kind in _HEADS.items():
        if head.startswith(magic):
            return kind
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    if head[257:262] == b"ustar" or (suffix == ".tar" and head[:2] != b"\x1f\x8b"):
        return "tar"
    return "arrow" if suffix == ".arrow" else None


def _surely_images(path: Path) -> bool:
    try:
        return holds_images(path)
    except DatasetError:
        return False


def _packed(location: str) -> DatasetError:
    return DatasetError(
        f"{location} cannot be read where it lies",
        expected="a plain .tar file, any image of which can be read alone",
        found="a compressed one",
        remedy="unpack it to a .tar file first, for example with gunzip; images are compressed already",
    )
