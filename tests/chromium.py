"""Debian's chromium for tests in a browser, installed when it is absent and that is allowed, and a page in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

NAMES = "chromium", "chromium-browser", "google-chrome"


class Opened:
    """A page, what it asked for, and what went wrong in it."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}} | options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss()))
        self.page.on("console", lambda message: self.faults.append(f"{message.type}: {message.text}"))
        self.page.goto(address)


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
