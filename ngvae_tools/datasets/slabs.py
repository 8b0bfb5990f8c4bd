"""Find a dataset inside an HDF5 file without following anything that leads outside it."""

from __future__ import annotations

import atexit
import os
from collections import deque
from pathlib import Path
from typing import Any
from weakref import WeakSet

import h5py

from ngvae_tools.datasets.places import Place, location_of
from ngvae_tools.datasets.sources import source_of
from ngvae_tools.errors import DatasetError

GUESSED_KEYS = ("images", "imgs", "x", "data")
_REMOTE: WeakSet[h5py.File] = WeakSet()
_MAX_LINKS = 32
_LISTED = 20


def open_file(path: Place, **options: int) -> h5py.File:
    """Open an HDF5 file to read, here or on object storage.

    Raises:
        DatasetError: It is not HDF5, is damaged, or may not be read.
    """
    try:
        if isinstance(path, str):
            file = h5py.File(source_of(path).open(), "r", **options)
            _REMOTE.add(file)
            return file
        return h5py.File(path, "r", locking="best-effort", **options)
    except OSError as error:
        raise DatasetError(
            f"{path if isinstance(path, Path) else location_of(path)} cannot be opened as HDF5",
            expected="an undamaged HDF5 file that may be read",
            found=str(error),
            remedy="check the file and its permissions, or write it again",
        ) from error


@atexit.register
def _close_remote() -> None:
    # HDF5 would call file objects of Python after Python has ended, and crash.
    for file in list(_REMOTE):
        file.close()


def find(file: h5py.File, key: str) -> h5py.Dataset | h5py.Group | None:
    """The object at `key` ("group/x" for nested ones); None if there is none.

    Soft links inside the file are followed.

    Raises:
        DatasetError: The way leads through a link to another file, or through a circle of links.
    """
    names = deque(key.split("/"))
    here: Any = file
    links = 0
    while names:
        name = names.popleft()
        if name in {"", "."}:
            continue
        # h5py's own membership test would open the target of an external link; the link table does not.
        if not isinstance(here, h5py.Group) or not here.id.links.exists(os.fsencode(name)):
            return None
        kind = here.id.links.get_info(os.fsencode(name)).type
        if kind == h5py.h5l.TYPE_SOFT and links < _MAX_LINKS:
            links += 1
            target = here.id.links.get_val(os.fsencode(name)).decode(errors="surrogateescape")
            here = file if target.startswith("/") else here
            names.extendleft(reversed(target.split("/")))
        elif kind == h5py.h5l.TYPE_HARD:
            here = here[name]
        else:
            raise _outside(file, key, "a link to another file" if kind != h5py.h5l.TYPE_SOFT else "circular links")
    return here


def find_images(file: h5py.File, key: str | None) -> tuple[str, h5py.Dataset]:
    """Key and dataset of the images: at `key`, else the first of images, imgs, x, data with 3 or 4 axes.

    Raises:
        DatasetError: There is none, it leads outside the file, or it needs a filter that is not installed.
    """
    for candidate in GUESSED_KEYS if key is None else (key,):
        found = find(file, candidate)
        if isinstance(found, h5py.Dataset) and (found.ndim in {3, 4} or key is not None):
            _refuse_outside(file, candidate, found)
            return candidate, found
    there: list[str] = []

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            there.append(f"{name} {item.shape} {item.dtype}")

    file.visititems(note)
    more = f" and {len(there) - _LISTED} more" if len(there) > _LISTED else ""
    raise DatasetError(
        f"{file.filename} has no dataset of images" + ("" if key is None else f" named {key!r}"),
        expected="one named " + " or ".join(GUESSED_KEYS if key is None else (key,)) + ", (N, H, W) or (N, H, W, C)",
        found=(", ".join(there[:_LISTED]) or "no dataset") + more,
        remedy="name the right one with --dataset-key",
    )


def _refuse_outside(file: h5py.File, key: str, dataset: h5py.Dataset) -> None:
    if dataset.is_virtual:
        raise _outside(file, key, "a virtual dataset")
    if dataset.external:
        raise _outside(file, key, "external storage")
    plan = dataset.id.get_create_plist()
    for number in range(plan.get_nfilters()):
        code, _, _, name = plan.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise DatasetError(
                f"{key!r} in {file.filename} is compressed with a filter that is not installed",
                expected="gzip, lzf, szip or none",
                found=f"filter {code} ({name.decode(errors='replace')})",
                remedy="write it again with gzip, for example with h5repack -f GZIP=4",
            )


def _outside(file: h5py.File, key: str, what: str) -> DatasetError:
    return DatasetError(
        f"{key!r} in {file.filename} is not stored in the file itself",
        expected="a dataset whose data lie in this file",
        found=what,
        remedy="copy the data into one file, for example with h5repack or h5py",
    )
