"""Object storage and other file systems behind a URL, through fsspec."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from ngvae_tools.datasets.places import location_of
from ngvae_tools.errors import DatasetError, MissingDependencyError

T = TypeVar("T")

Part: TypeAlias = tuple[str, int | None, int | None]
"""An object's path, and the first byte and the one after the last; None: its own first or last."""

PAUSES = (0.5, 2.0)
"""Seconds before a request that failed is made again."""

ABOUT_THE_OBJECT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""What concerns one object alone; anything else is the storage's own failure."""

_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol"}
_CREDENTIALS = ("credential", "permission", "forbidden", "unauthorized", "accessdenied", "signature", "token", "login")
_MAX_TEXT = 300


class Storage:
    """A file system, connected anew in every process that uses it.

    Credentials and endpoints come from where the protocol's package looks for them, and from fsspec's own
    configuration (`~/.config/fsspec/*.json`, environment variables such as `FSSPEC_S3_ENDPOINT_URL`).

    Args:
        url: A URL within it.

    Raises:
        DatasetError: No such protocol, or it cannot be set up.
        MissingDependencyError: fsspec or the protocol's package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._connect()

    @property
    def location(self) -> str:
        """The URL as it may be written down."""
        return location_of(self.url)

    def info(self, path: str) -> dict[str, Any]:
        """What is known of an object: `type`, and `size` of a file. Raises `DatasetError`."""
        try:
            found: dict[str, Any] = self._tried(lambda: self._fs.info(path))
        except ABOUT_THE_OBJECT as error:
            raise unreachable(self.location, error) from error
        return found

    def find(self, path: str) -> dict[str, dict[str, Any]]:
        """Every file below a path, by its own path. Raises `DatasetError`."""
        try:
            found = self._tried(lambda: self._fs.find(path, detail=True))
        except ABOUT_THE_OBJECT as error:
            raise unreachable(self.location, error) from error
        return {str(name): about for name, about in found.items() if about.get("type", "file") == "file"}

    def read(self, path: str, start: int | None = None, stop: int | None = None) -> bytes:
        """Bytes of an object. Raises one of `ABOUT_THE_OBJECT`, and `DatasetError` where the storage fails."""
        return bytes(self._tried(lambda: self._fs.cat_file(path, start=start, end=stop)))

    def read_many(self, parts: Sequence[Part]) -> list[bytes | Exception]:
        """Parts of objects, asked for at the same time where the protocol can; or one of `ABOUT_THE_OBJECT`.

        Raises `DatasetError` where the storage fails.
        """
        if self._process != os.getpid():
            self._connect()
        paths, starts, stops = (list(column) for column in zip(*parts, strict=True)) if parts else ([], [], [])
        found: list[Any] = [None] * len(parts)
        # Whatever the protocol's package raises: each part is then asked for alone.
        with suppress(Exception):
            found = self._fs.cat_ranges(paths, starts, stops, on_error="return")
        return [each if isinstance(each, bytes) else self._again(part) for part, each in zip(parts, found, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.url = state["url"]
        self._connect()

    def _again(self, part: Part) -> bytes | Exception:
        try:
            return self.read(*part)
        except ABOUT_THE_OBJECT as error:
            return error

    def _tried(self, call: Callable[[], T]) -> T:
        if self._process != os.getpid():
            self._connect()
        for pause in (*PAUSES, None):
            try:
                return call()
            except (*ABOUT_THE_OBJECT, DatasetError):
                raise
            except Exception as error:
                if pause is None or _lacks_credentials(error):
                    raise unreachable(self.location, error) from error
                time.sleep(pause)
        raise AssertionError

    def _connect(self) -> None:
        try:
            import fsspec
        except ImportError:
            raise MissingDependencyError(
                f"{self.location} cannot be opened",
                expected="fsspec, to read from object storage",
                found="none that can be imported",
                remedy="install it with: pip install 'ngvae-tools[cloud]'",
            ) from None
        protocol = self.url.partition("://")[0].rpartition("::")[2]
        try:
            self._fs, self.root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise MissingDependencyError(
                f"{self.location} cannot be opened",
                expected=f"the package that reads {protocol}://",
                found=_text(error),
                remedy=f"install it with: pip install {_package(protocol)}",
            ) from error
        except Exception as error:
            if isinstance(error, ValueError) and protocol not in fsspec.available_protocols():
                raise DatasetError(
                    f"{self.location} cannot be opened",
                    expected="a protocol that fsspec knows, such as s3://, gs://, az:// or https://",
                    found=f"{protocol}://",
                    remedy="correct the address",
                ) from error
            raise unreachable(self.location, error) from error
        self._process = os.getpid()


def unreachable(location: str, error: Exception) -> DatasetError:
    """The error of what cannot be read from a storage."""
    if isinstance(error, FileNotFoundError):
        return DatasetError(
            f"{location} cannot be opened",
            expected="a data set that may be read",
            found="nothing there",
            remedy="check the address",
        )
    remedy = "check the address and the network, and give the same command again"
    if _lacks_credentials(error):
        remedy = (
            "give credentials where the protocol's package looks for them, for s3:// in AWS_ACCESS_KEY_ID or ~/.aws"
        )
    return DatasetError(
        f"{location} cannot be read",
        expected="a storage that answers and lets you read",
        found=_text(error),
        remedy=remedy,
    )


def _lacks_credentials(error: Exception) -> bool:
    text = f"{type(error).__name__} {error}".lower().replace(" ", "")
    return any(word in text for word in _CREDENTIALS)


def _text(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__)[:_MAX_TEXT]


def _package(protocol: str) -> str:
    from fsspec.registry import known_implementations

    module = str(known_implementations.get(protocol, {}).get("class", protocol)).partition(".")[0]
    return _PACKAGES.get(protocol, module if module != "fsspec" else protocol)
