"""Images in a Zarr array."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.places import Place
from ngvae_tools.datasets.rows import RowImages
from ngvae_tools.datasets.slabs import GUESSED_KEYS
from ngvae_tools.errors import DatasetError, MissingDependencyError

if TYPE_CHECKING:
    import numpy.typing as npt

_METADATA = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})
_LISTED = 20
# What only computes; numcodecs' "pickle" would run what a chunk says.
_CODECS = frozenset(
    {
        *("bytes", "transpose", "blosc", "gzip", "zlib", "zstd", "lz4", "lzma", "bz2", "pcodec", "zfpy", "crc32c"),
        *("crc32", "adler32", "fletcher32", "jenkins_lookup3", "sharding_indexed", "shuffle", "delta", "bitround"),
        *("fixedscaleoffset", "quantize", "packbits", "astype"),
    }
)


class ZarrImages(RowImages):
    """The images of a Zarr array of version 2 or 3, (N, H, W) or (N, H, W, C), numbered by row.

    Several threads read at the same time. A chunk that is not stored holds the array's fill value, as Zarr defines
    it: one that was lost cannot be told from one that is blank.

    Args:
        path: The store's folder, or its URL: an array, or a group that holds one.
        dataset_key: The array's name in the group, "group/x" for nested ones; None: images, imgs, x or data.
        image_shape: See `RowImages`.
        dtype: See `RowImages`.
        resize: See `RowImages`.

    Raises:
        DatasetError: The store or its array cannot be used, or does not have the expected shape and dtype.
        MissingDependencyError: zarr is not installed.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["zarr"] = "zarr"
    concurrent = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        dataset_key: str | None = None,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        self._array: Any = None
        self.key, array = _find(self.path, dataset_key)
        self._settle(tuple(int(n) for n in array.shape), np.dtype(array.dtype))
        _refuse_codecs(self._where, array)
        if isinstance(self.path, Path) and not _holds_chunks(self.path / self.key):
            raise DatasetError(
                f"{self._where} holds no image",
                expected="at least one stored image",
                found=f"shape {array.shape}, none of it ever written",
                remedy="write images to it, or name another array with --dataset-key",
            )
        self.chunk_rows = int((array.shards or array.chunks)[0])

    def factors(self) -> None:
        """None: labels are not looked for."""

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_array": None}

    @property
    def _where(self) -> str:
        return super()._where if self.key else self.location

    def _release(self) -> None:
        self._array = None

    def _read_rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        with self._lock:
            if self._array is None:
                self._array = _open(self.path)
                self._array = self._array[self.key] if self.key else self._array
            array = self._array
        try:
            return np.asarray(array[start:stop]), {}
        except Exception as error:  # noqa: BLE001 (every codec has its own)
            if stop - start == 1:
                return np.zeros((1, *array.shape[1:]), self.dtype), {start: f"cannot be read: {error}"}
        images = np.zeros((stop - start, *array.shape[1:]), self.dtype)
        bad: dict[int, str] = {}
        # A chunk is damaged as a whole: what is good is read in one go, the rest row by row.
        size = self.chunk_rows if stop - start > self.chunk_rows or start % self.chunk_rows else 1
        for first, last in _cuts(start, stop, size):
            images[first - start : last - start], reasons = self._read_rows(first, last)
            bad |= reasons
        return images, bad


def _cuts(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    edges = [start, *range((start // size + 1) * size, stop, size), stop]
    if len(edges) == 2 and stop - start > 1:
        edges = list(range(start, stop + 1))
    return itertools.pairwise(edges)


def _open(place: Place) -> Any:
    try:
        import zarr
    except ImportError:
        raise MissingDependencyError(
            f"{place} cannot be opened",
            expected="zarr, to read Zarr stores",
            found="none that can be imported",
            remedy="install it with: pip install 'ngvae-tools[zarr]'",
        ) from None
    try:
        store = (
            os.fspath(place) if isinstance(place, Path) else zarr.storage.FsspecStore.from_url(place, read_only=True)
        )
        return zarr.open(store, mode="r")
    except Exception as error:
        raise _unusable(
            place, "an array or a group of Zarr version 2 or 3", str(error) or type(error).__name__
        ) from error


def _find(place: Place, key: str | None) -> tuple[str, Any]:
    """The array's name in the store, "" for the store itself, and the array."""
    found = _open(place)
    import zarr

    if isinstance(found, zarr.Array):
        if key is not None:
            raise _unusable(place, f"a group with an array {key!r}", "an array alone: leave --dataset-key out")
        return "", found
    for candidate in GUESSED_KEYS if key is None else (key.strip("/"),):
        try:
            array = found[candidate]
        except (KeyError, ValueError, TypeError):
            continue
        if isinstance(array, zarr.Array) and (array.ndim in {3, 4} or key is not None):
            return candidate, array
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what else lies there
        arrays = [f"{name} {array.shape} {array.dtype}" for name, array in found.arrays()]
    more = f" and {len(arrays) - _LISTED} more" if len(arrays) > _LISTED else ""
    wanted = " or ".join(GUESSED_KEYS if key is None else (key,))
    raise DatasetError(
        f"{place} has no array of images",
        expected=f"one named {wanted}, (N, H, W) or (N, H, W, C)",
        found=(", ".join(arrays[:_LISTED]) or "no array") + more,
        remedy="name the right one with --dataset-key",
    )


def _refuse_codecs(where: str, array: Any) -> None:
    unknown = sorted({name for name in _codecs(array.metadata.to_dict()) if name not in _CODECS})
    if unknown:
        raise DatasetError(
            f"{where} is encoded in a way that is not read",
            expected="bytes, blosc, gzip, zstd or another common codec",
            found=", ".join(unknown),
            remedy="store it again with one of these",
        )


def _codecs(described: Any) -> Iterator[str]:
    """Names of the codecs in an array's metadata, those within shards too."""
    if isinstance(described, dict):
        for name, value in described.items():
            if name in {"codecs", "index_codecs", "filters", "compressor"}:
                for codec in value if isinstance(value, (list, tuple)) else [value]:
                    yield from _codec(codec)


def _codec(codec: Any) -> Iterator[str]:
    if codec is None:
        return
    about = (
        codec if isinstance(codec, dict) else codec.get_config() if hasattr(codec, "get_config") else codec.to_dict()
    )
    yield str(about.get("name") or about.get("id")).removeprefix("numcodecs.")
    yield from _codecs(about.get("configuration"))


def _holds_chunks(folder: Path) -> bool:
    return any(not _METADATA.issuperset(files) for _, _, files in os.walk(folder))


def _unusable(place: Place, expected: str, found: str) -> DatasetError:
    return DatasetError(
        f"{place} cannot be read as a Zarr store",
        expected=expected,
        found=found,
        remedy="check the store and its permissions, or write it again",
    )
