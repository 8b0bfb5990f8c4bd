"""One process at a time in an output folder."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from ngvae_tools.errors import OutputError
from ngvae_tools.files import output_errors

LOCK_NAME = ".ngvae-tools.lock"

_FIRST_WORD = "process "


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that also ask out of a folder; the lock ends with the block, or with the process.

    The folder is made where it is missing, with those above it, and removed again if nothing was put into it.

    Raises:
        OutputError: Another process is in there, or the folder cannot be written.
    """
    with output_errors(folder):
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        file = _acquire(folder / LOCK_NAME)
    try:
        yield
    finally:
        _release(file, folder / LOCK_NAME)
        with suppress(OSError):  # there is something in it
            for place in made:
                place.rmdir()


def _acquire(path: Path) -> TextIO:
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise OutputError(
                f"{path.parent} is in use",
                expected="a folder that no other process writes to",
                found=holder,
                remedy="wait until it has ended, or name another --output",
            ) from None
        with suppress(FileNotFoundError):
            # The holder before us may have removed the file between our opening and locking it.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    file.seek(0)
    if file.read(len(_FIRST_WORD)) not in {"", _FIRST_WORD}:
        file.close()
        raise OutputError(
            f"{path} is no lock of ngvae-tools",
            expected="no file of that name",
            found="one with other content",
            remedy="move it away, or name another --output",
        )
    file.truncate(0)
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    file.write(f"{_FIRST_WORD}{os.getpid()} on {socket.gethostname()}, since {since}\n")
    file.flush()
    return file


if sys.platform == "win32":
    import msvcrt

    def _lock(file: TextIO) -> None:
        # A place far behind the text, which others then can still read.
        file.seek(2**30)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _release(file: TextIO, path: Path) -> None:
        file.close()
        with suppress(OSError):
            path.unlink()
else:
    import fcntl

    def _lock(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(file: TextIO, path: Path) -> None:
        with suppress(OSError):
            path.unlink()
        file.close()
