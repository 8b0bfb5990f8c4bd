"""Find the image files below a folder."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ngvae_tools.datasets.names import NameGatherer, PackedNames
from ngvae_tools.datasets.pillow import suffixes

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(slots=True)
class Scan:
    """What a folder holds.

    Args:
        images: Relative paths with "/" as bytes, sorted by bytes.
        others: How many other files there are, by suffix in lower case.
    """

    images: PackedNames
    others: Counter[str]


def scan_folder(root: Path) -> Scan:
    """List the image files below `root`; those that count are told by suffix.

    Links are followed. A folder that is reached in several ways is read once, by its own path before any
    link, so that cycles end and the order of the listing does not matter. Files and folders that begin with
    "." are left out. A broken link with an image's suffix counts, so that reading it can say so.

    Raises:
        OSError: A folder cannot be read.
    """
    images, others = NameGatherer(), Counter[str]()
    wanted = frozenset(os.fsencode(suffix) for suffix in suffixes())
    seen: set[tuple[int, int]] = set()
    links = [b""]
    while links:
        pending = [heapq.heappop(links)]
        while pending:
            prefix = pending.pop()
            folder = os.path.join(os.fsencode(root), prefix)  # noqa: PTH118 (bytes, which pathlib does not take)
            status = os.stat(folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith(b"."):
                        continue
                    relative = prefix + entry.name
                    kind = _kind(entry)
                    if kind == "folder" and entry.is_symlink():
                        heapq.heappush(links, relative + b"/")
                    elif kind == "folder":
                        pending.append(relative + b"/")
                    else:
                        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                        if suffix in wanted and kind in {"file", "broken link"}:
                            images.add(relative)
                        else:
                            others[os.fsdecode(suffix)] += 1
    return Scan(images.packed(), others)


def _kind(entry: os.DirEntry[bytes]) -> Literal["folder", "file", "broken link", "other"]:
    """What an entry leads to; "other" are pipes and devices, whose opening could wait for ever."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
        if entry.is_symlink():
            entry.stat()
    except OSError:
        return "broken link"
    return "other"
