"""Writing files so that a final name never holds half a result, on a full disk too; stdlib only."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ngvae_tools.errors import OptionError, OutputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOCK_NAME = ".ngvae-tools.lock"
"""File in an output folder that the process writing there holds."""


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Make sure that a written file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into an `OutputError` that names the path."""
    try:
        yield
    except OSError as error:
        a_file = isinstance(error, FileExistsError | NotADirectoryError)
        raise OutputError(
            f"cannot write to {path}",
            expected="a folder that can be written and has room",
            found="a file where a folder should be" if a_file else error.strerror or str(error),
            remedy="check the place, or name another",
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield `path` + ".part" to write to; rename it to `path` when the block ends well, else remove it.

    Raises:
        OutputError: The file cannot be written.
    """
    part = path.parent / f"{path.name}.part"
    try:
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            flush_to_disk(part)
            part.replace(path)
            flush_to_disk(path.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path, check: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new folder beside `path`; it becomes `path` when the block ends well, else it is removed.

    Args:
        path: The folder to make, or to replace as a whole.
        check: Called with `path` where something is there; raises unless that may be replaced.

    Raises:
        OutputError: The folder cannot be written.
    """
    path = path.absolute()
    with output_errors(path):
        if path.exists() or path.is_symlink():
            check(path)
        old = path.with_name(f"{path.name}.old")
        if old.exists():
            raise OutputError(
                f"{old} is in the way", expected="an unused name", found="a folder", remedy="move it away first"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: a folder that is there, whatever it is called, belongs to somebody.
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        with output_errors(path):
            part.chmod(0o755)
            yield part
            flush_to_disk(part)
            if path.exists():
                path.rename(old)
                try:
                    part.rename(path)
                except BaseException:
                    old.rename(path)
                    raise
                _remove(old)
            else:
                part.rename(path)
            flush_to_disk(path.parent)
    finally:
        with suppress(OSError):
            _remove(part)


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


class FileBytes:
    """A file that is open to read at any offset, by any number of threads, until the last of them lets go of it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.size = os.fstat(self._descriptor).st_size

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer where the file ends. Raises `OSError`."""
        data = os.pread(self._descriptor, length, offset)
        while (
            data and len(data) < length and (more := os.pread(self._descriptor, length - len(data), offset + len(data)))
        ):
            data += more
        return data

    def read_into(self, offset: int, out: npt.NDArray[np.uint8]) -> int:
        """Fill `out` from `offset`; the number of bytes, fewer where the file ends. Raises `OSError`."""
        done, view = 0, out.data
        while done < len(view) and (count := os.preadv(self._descriptor, [view[done:]], offset + done)):
            done += count
        return done


class DeferringFile(io.RawIOBase):
    """A binary file whose writes never fail: what the disk refuses stays in memory, and `check` raises it.

    HDF5 cannot close a file once a write was refused: it reports the error, keeps the file, and the process
    ends in a segmentation fault (seen with HDF5 2.0). Through this file it sees every write succeed. Whoever
    writes calls `check` after every chunk, so that little is held in memory.

    Args:
        path: The file to make; an existing one is emptied.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._disk: io.FileIO = path.open("w+b", buffering=0)
        self._position = 0
        self._refusal: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise the first error of the disk, if there was one."""
        if self._refusal is not None:
            raise self._refusal

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, as files do."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size()}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The place of the next read or write."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # Buffer needs 3.12
        """Read from the disk and from what it refused."""
        view = memoryview(buffer).cast("B")
        start, length = self._position, max(min(len(view), self._size() - self._position), 0)
        self._disk.seek(start)
        view[:length] = self._disk.read(length).ljust(length, b"\0")
        for offset, data in self._kept:
            first, last = max(offset, start), min(offset + len(data), start + length)
            if first < last:
                view[first - start : last - start] = data[first - offset : last - offset]
        self._position += length
        return length

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]  # Buffer needs 3.12
        """Write to the disk, or keep what it refuses."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self._refusal is None:
            try:
                self._disk.seek(self._position + done)
                done += self._disk.write(view[done:])
            except OSError as error:
                self._refusal = error
        if done < len(view):
            self._kept.append((self._position + done, bytes(view[done:])))
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file."""
        size = self._position if size is None else size
        try:
            self._disk.truncate(size)
        except OSError as error:
            self._refusal = self._refusal or error
        return size

    def close(self) -> None:
        """Close the file; an error that comes only now is for `check` too."""
        if not self.closed:
            try:
                self._disk.close()
            except OSError as error:
                self._refusal = self._refusal or error
        super().close()

    def _size(self) -> int:
        ends = [offset + len(data) for offset, data in self._kept]
        return max(os.fstat(self._disk.fileno()).st_size, *ends, 0)


@contextmanager
def deferring_errors(path: Path) -> Iterator[DeferringFile]:
    """A `DeferringFile` that is closed, and checked once more, when the block ends well."""
    with DeferringFile(path) as file:
        yield file
    file.check()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one step, so that a reader sees the old or the new, never a part."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def refuse_existing(path: Path, *, overwrite: bool, found: str = "a result") -> None:
    """Raise `OutputError` if a file `path` exists and may not be replaced; `found` says what it is.

    A folder never may.
    """
    with output_errors(path):
        exists, is_folder = path.exists(), path.is_dir()
    if is_folder:
        raise OutputError(
            f"{path} already exists", expected="a name for a file", found="a folder", remedy="name another place"
        )
    if exists and not overwrite:
        raise OutputError(
            f"{path} already exists",
            expected="an unused name",
            found=found,
            remedy="name another place, or pass --overwrite to replace it",
        )


def refuse_replacing(output: Path, *inputs: str | os.PathLike[str]) -> None:
    """Refuse an output that is one of the inputs, or a folder that holds one: it would be lost.

    Raises:
        OptionError: It is so.
    """
    place = real_path(output)
    is_folder = os.path.isdir(place)  # noqa: PTH112 - finds no fault with names that are too long
    for path in inputs:
        source = real_path(path)
        if place == source or (is_folder and place in source.parents):
            raise OptionError(
                f"{output} would replace what it is made of",
                expected="an output apart from the inputs",
                found=f"{path}",
                remedy="name another place",
            )


def refuse_foreign(
    path: Path,
    foreign: Callable[[Path], str | None],
    *,
    overwrite: bool,
    own: str,
    allowed: str,
    remedy: str = "name another place",
) -> None:
    """Refuse a place where something is; with `overwrite`, all but what a command wrote itself.

    Args:
        path: The place.
        foreign: What there is that the command did not write, in words; None where there is nothing of the kind.
        overwrite: Replace what it wrote.
        own: What it writes, in words.
        allowed: What it would replace, in words.
        remedy: What to do.

    Raises:
        OutputError: Something is there that may not be replaced.
    """
    with output_errors(path):
        if not path.exists() and not path.is_symlink():
            return
        found = foreign(path)
    if overwrite and found is None:
        return
    raise OutputError(
        f"{path} already exists",
        expected="an unused name" + (f", or {allowed}" if overwrite else ""),
        found=found or own,
        remedy=remedy + ("" if found else ", or pass --overwrite to replace it"),
    )


def unlisted(folder: Path, name: str, read: Callable[[Path], Collection[str] | None], of_what: str) -> str | None:
    """What there is that is no folder of files that a list in it names, in words; None where all are named.

    Args:
        folder: The place.
        name: Name of the list.
        read: The relative paths that a list names; None, or `ValueError`, where it is no such list.
        of_what: What it lists, in words.

    Raises:
        OSError: It cannot be read.
    """
    if folder.is_symlink() or not folder.is_dir():
        return "no folder"
    listed = None
    with suppress(FileNotFoundError, IsADirectoryError, ValueError):
        listed = read(folder / name)
    if listed is None:
        return f"a folder without a list of {of_what}, {name}"
    other = first_beside(folder, {name, *listed})
    return None if other is None else f"a folder that holds {other}, too"


def first_beside(folder: Path, listed: Collection[str]) -> str | None:
    """What a folder holds first that is none of the files listed, by relative paths with "/", nor a folder of theirs.

    Raises:
        OSError: The folder cannot be read.
    """
    known = {parent.as_posix() for name in listed for parent in PurePosixPath(name).parents}
    for top, folders, files in os.walk(folder, onerror=_raise):
        inside = Path(top).relative_to(folder).as_posix()
        below = "" if inside == "." else f"{inside}/"
        others = [name for name in files if f"{below}{name}" not in listed]
        others += [name for name in folders if f"{below}{name}" not in known or Path(top, name).is_symlink()]
        if others:
            return f"{below}{min(others)}"
    return None


def _raise(error: OSError) -> None:
    raise error


def real_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path without links, of what a record names too: no path is too odd for it."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # it holds a null byte
        return Path(path)
