"""A disk that is soon full, for tests of what happens then."""

import subprocess
import sys
from contextlib import contextmanager

import pytest


@contextmanager
def small_disk(folder, size="64k"):
    """Mount a file system of `size` in a new folder; skips where that is not allowed."""
    if not sys.platform.startswith("linux"):
        pytest.skip("a tmpfs can be mounted on Linux only")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def run_python(code, *arguments):
    """Run a script in a fresh interpreter, which must end well; what it printed.

    HDF5 ruins a process that it could not write from only when that process ends.
    """
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout


LIMIT_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
"""Refuses to grow a file over 64 KiB, which needs no rights; Python turns the signal into an OSError."""
