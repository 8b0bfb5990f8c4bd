"""Debian's chromium for tests in a browser, installed when it is absent and that is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess

NAMES = "chromium", "chromium-browser", "google-chrome"


def executable() -> str:
    """Where the browser is.

    Raises:
        RuntimeError: There is none, and it cannot be installed; says why.
    """
    if (found := _found()) is not None:
        return found
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise RuntimeError("the browser tests need chromium: install it, for instance with `apt-get install chromium`")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    wait = ("-o", "DPkg::Lock::Timeout=600")
    for words in (
        ("update", "-q"),
        ("install", "-qq", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"),
    ):
        done = subprocess.run(
            ["apt-get", *wait, *words], check=False, capture_output=True, text=True, env=environment, timeout=900
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise RuntimeError(f"the browser tests need chromium, and apt-get could not install it: {said[-1:]}")
    if (found := _found()) is None:
        raise RuntimeError("the browser tests need chromium, which apt-get installed nowhere on the path")
    return found


def _found() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)
