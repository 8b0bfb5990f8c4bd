"""Versions of what a result was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import ngvae_tools


def versions_of(*packages: str) -> dict[str, str]:
    """Versions of ngvae-tools, Python and those of the packages that are installed."""
    found = {"ngvae-tools": ngvae_tools.__version__, "python": platform.python_version()}
    for package in packages:
        installed = installed_version(package)
        if installed is not None:
            found[package] = installed
    return found


def installed_version(package: str) -> str | None:
    """Version of an installed package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
