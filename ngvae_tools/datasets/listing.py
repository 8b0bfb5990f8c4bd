"""The files below a place that have one suffix, as sources of bytes."""

from __future__ import annotations

import os
from pathlib import Path

from ngvae_tools.datasets.places import Place
from ngvae_tools.datasets.sources import LocalFile, RemoteFile, Source
from ngvae_tools.datasets.storage import Storage, unreachable
from ngvae_tools.errors import DatasetError

Listed = tuple[bytes, Source]
"""A file's path below the folder with "/" as bytes, and the file."""


def files_below(place: Place, suffix: str) -> list[Listed]:
    """The file itself, or the files below a folder, sorted by the bytes of their relative paths.

    Names that begin with "." are left out; links to folders are not followed.

    Raises:
        DatasetError: There is nothing, it cannot be listed, or no file has the suffix.
        MissingDependencyError: See `Storage`.
    """
    found = _local(place, suffix) if isinstance(place, Path) else _remote(place, suffix)
    if not found:
        raise DatasetError(
            f"the folder {place} holds no {suffix} file",
            expected=f"files ending in {suffix}",
            found="none",
            remedy="name another folder",
        )
    return sorted(found, key=lambda each: each[0])


def relative(path: str, root: str) -> str | None:
    """A path below `root` with "/"; None where any part of it begins with "."."""
    below = path.removeprefix(root).lstrip("/")
    return None if any(part.startswith(".") for part in below.split("/")) else below


def _local(path: Path, suffix: str) -> list[Listed]:
    if not path.is_dir():
        return [(os.fsencode(path.name), LocalFile(path))]

    def fail(error: OSError) -> None:
        raise DatasetError(
            f"the folder {path} cannot be read",
            expected="a folder that can be listed with all its subfolders",
            found=f"{error.strerror}: {os.fsdecode(error.filename or path)}",
            remedy="correct its permissions or name another folder",
        ) from error

    found: list[Listed] = []
    for folder, folders, files in os.walk(path, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(suffix) and not name.startswith("."):
                file = Path(folder, name)
                found.append((os.fsencode(file.relative_to(path).as_posix()), LocalFile(file)))
    return found


def _remote(url: str, suffix: str) -> list[Listed]:
    storage = Storage(url)
    if not url.endswith("/") and storage.info(storage.root).get("type") != "directory":
        return [(os.fsencode(storage.root.rstrip("/").rpartition("/")[2]), RemoteFile(storage, storage.root))]
    names = storage.find(storage.root)
    if not names:
        raise unreachable(storage.location, FileNotFoundError())
    return [
        (os.fsencode(below), RemoteFile(storage, name))
        for name in names
        if (below := relative(name, storage.root)) is not None and below.lower().endswith(suffix)
    ]
