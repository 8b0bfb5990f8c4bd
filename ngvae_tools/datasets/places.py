"""Where data lie: a path on this machine, or a URL that fsspec understands."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

Place: TypeAlias = Path | str
"""A path; a URL stays text, since a path would lose one of its slashes."""

_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]+://")
_LOCAL = re.compile(r"(?:file|local)://")
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")


def place_of(data: str | os.PathLike[str]) -> Place:
    """The place that a user names: a URL with its protocol (`s3://`, `gs://`, `http://` ...) as text, else a path."""
    text = os.fspath(data)
    if (local := _LOCAL.match(text)) is not None:
        return Path(text[local.end() :])
    return text if _URL.match(text) else Path(text)


def location_of(place: Place) -> str:
    """The place as it may be written down: an absolute path, or the URL less its password and query."""
    if isinstance(place, Path):
        return str(place.resolve())
    parts = urlsplit(place)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def name_of(place: Place) -> str:
    """The name of the file or folder without its suffix, to name other things after it."""
    if isinstance(place, Path):
        return place.resolve().stem
    last = urlsplit(place.rpartition("::")[2])
    stem = PurePosixPath(last.path).stem or last.netloc.rpartition("@")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-") or "data"


def lost_slash(path: Path) -> bool:
    """Whether a path looks like a URL that was made a path."""
    return _LOST_SLASH.match(path.as_posix()) is not None
