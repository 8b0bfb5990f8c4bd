"""One process at a time in an output folder."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from ngvae_tools.errors import OutputError
from ngvae_tools.files import LOCK_NAME, output_errors

HOLDER = "process "
"""How what a holder writes into the lock begins: what begins otherwise is a file of someone else."""

_TRIES = 5
"""How often a lock is asked for, 50 ms apart: who only looks whether it is held has it for a moment."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that also ask out of a folder; the lock ends with the block, or with the process.

    The folder is made where it is missing, with those above it, and removed again if nothing was put into it.

    Raises:
        OutputError: Another process is in there, the folder cannot be written, or it has a file of the lock's name
            that is no lock.
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


def holder(folder: Path) -> str | None:
    """What the process that holds the lock of a folder says of itself; None where none holds it."""
    try:
        file = (folder / LOCK_NAME).open("r+", encoding="utf-8", errors="replace")
    except OSError:
        return None
    with file:
        try:
            _lock(file)
        except OSError:
            return _text(file).strip()
    return None  # closing has let it go


def _acquire(path: Path) -> TextIO:
    tries = 0
    while True:
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            said = _text(file).strip()
            file.close()
            tries += 1
            if tries < _TRIES:
                time.sleep(0.05)
                continue
            raise OutputError(
                f"{path.parent} is in use",
                expected="a folder that no other process writes to",
                found=said if said.startswith(HOLDER) else "another process",
                remedy="wait until it has ended, or name another --output",
            ) from None
        with suppress(FileNotFoundError):
            # The holder before us may have removed the file between our opening and locking it.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    text = _text(file)
    if text and not text.startswith(HOLDER):
        file.close()
        raise OutputError(
            f"{path} already exists",
            expected="an unused name, for the lock that keeps other processes out",
            found="a file of that name that is no lock",
            remedy="move it away, or name another --output",
        )
    file.truncate(0)
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    file.write(f"{HOLDER}{os.getpid()} on {socket.gethostname()}, since {since}\n")
    file.flush()
    return file


def _text(file: TextIO) -> str:
    """The start of what a file says, longer than what a holder writes."""
    file.seek(0)
    return file.read(1000)


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
