"""One process at a time in an output folder."""

from __future__ import annotations

import os
import random
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
    """What the process that holds the lock of a folder says of itself; None where none holds it.

    Looking needs no right to write there.

    Raises:
        OSError: Whether it is held cannot be known: the lock cannot be opened, or locks do not work there.
    """
    try:
        file = (folder / LOCK_NAME).open(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    with file:
        try:
            _lock_to_look(file)
        except (BlockingIOError, PermissionError):
            return _text(file).strip()
    return None  # closing has let it go


def _acquire(path: Path) -> TextIO:
    end = time.monotonic() + _LOOKING
    while True:
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            looked_at = _only_looked_at(file)
            said = _text(file).strip()
            file.close()
            if looked_at and time.monotonic() < end:
                time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - no secret
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

    _LOOKING = 0.2
    """Seconds for which a lock is asked for: who only looks whether it is held has it for a moment."""

    def _lock(file: TextIO) -> None:
        # A place far behind the text, which others then can still read.
        file.seek(2**30)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    _lock_to_look = _lock  # there are no shared locks

    def _only_looked_at(file: TextIO) -> bool:  # noqa: ARG001 - it cannot be told
        return True

    def _release(file: TextIO, path: Path) -> None:
        file.close()
        with suppress(OSError):
            path.unlink()
else:
    import fcntl

    _LOOKING = 10.0
    """Seconds for which a lock is asked for that others only look at."""

    def _lock(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _lock_to_look(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _only_looked_at(file: TextIO) -> bool:
        """Whether a lock that was refused is no one's own: looking is then possible."""
        try:
            _lock_to_look(file)
        except OSError:
            return False
        return True

    def _release(file: TextIO, path: Path) -> None:
        with suppress(OSError):
            path.unlink()
        file.close()
