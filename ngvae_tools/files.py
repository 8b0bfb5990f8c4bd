"""Writing files so that a final name never holds half a result; stdlib only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ngvae_tools.errors import OutputError


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
        raise OutputError(
            f"cannot write to {path}",
            expected="a folder that can be written and has room",
            found=error.strerror or str(error),
            remedy="free some space or name another place with --output",
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield `path` + ".part" to write to; rename it to `path` when the block ends well, else remove it.

    Raises:
        OutputError: The file cannot be written.
    """
    part = path.with_name(path.name + ".part")
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


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file in one step, so that a reader sees the old or the new, never a part."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} already exists",
            expected="an unused name",
            found="a finished result",
            remedy="name another place with --output, or pass --overwrite to replace it",
        )
