"""The images that the rows of a latent file are of, read again from the data sets where they lie."""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ngvae_tools.datasets import ImageDataset, open_dataset
from ngvae_tools.datasets.base import BY_PATH
from ngvae_tools.datasets.places import Place, place_of
from ngvae_tools.errors import DatasetError, NgvaeToolsError
from ngvae_tools.latents.header import DataSource
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.workflows.preprocessing import Preprocessing

AT_ONCE_BYTES = 2**24
"""Stored images that are read at once, at most, unless one is larger."""

Rows = npt.NDArray[np.int64]


def check_data(dataset: ImageDataset, source: DataSource) -> None:
    """Refuse a data set that is not the one that latents are of.

    Raises:
        DatasetError: It is another, or has changed.
    """
    found = dataset.fingerprint()
    if found != source.fingerprint:
        raise DatasetError(
            f"{dataset.location} is not the data set that the latents are of",
            expected=f"{source.path} with the fingerprint {source.fingerprint[:12]}...",
            found=f"{found[:12]}...",
            remedy="name that data set, unchanged",
        )


def index_in(dataset: ImageDataset, identifiers: npt.NDArray[Any]) -> Rows:
    """Which images of a data set identifiers (n,) name.

    Raises:
        DatasetError: It lacks one of them.
    """
    if dataset.kind not in BY_PATH:
        numbers = np.asarray(identifiers, np.int64)
        found, missing = numbers, bool(((numbers < 0) | (numbers >= len(dataset))).any())
    else:
        # Numbered by their sorted names, of which there may be more than fit into memory.
        names = [bytes(name) for name in identifiers]
        found = np.array([_place_of(dataset, name) for name in names], np.int64)
        missing = bool((found < 0).any())
    if missing:
        raise DatasetError(
            f"{dataset.location} lacks images of the latent file",
            expected="the data set that was encoded",
            found="other names",
            remedy="name that data set, unchanged",
        )
    return found


def identifiers_at(file: LatentFile, rows: Rows) -> npt.NDArray[Any]:
    """Identifiers of ascending rows, of which only the chunks that hold them are read."""
    return _at(file, rows, file.identifiers_of)


def labels_at(file: LatentFile, rows: Rows) -> npt.NDArray[np.float64]:
    """Labels (n, F) of ascending rows, of which only the chunks that hold them are read."""
    return _at(file, rows, file.labels_of)


def _at(file: LatentFile, rows: Rows, read: Callable[[int, int], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    parts = [read(0, 0)]
    for places in _together(rows, file.header.chunk_rows):
        chunk = rows[places]
        parts.append(read(int(chunk[0]), int(chunk[-1]) + 1)[chunk - chunk[0]])
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows first <= row < stop of the latent file, and the data set that holds their images."""

    dataset: ImageDataset
    source: DataSource
    first: int
    stop: int

    def index(self, file: LatentFile, rows: Rows) -> Rows:
        names = identifiers_at(file, rows)
        before = self.source.identifiers
        if names.dtype.kind == "i":
            return index_in(self.dataset, names - (before if isinstance(before, int) else 0))
        prefix = os.fsencode(str(before))
        return index_in(self.dataset, np.array([name.removeprefix(prefix) for name in names.tolist()], names.dtype))


def is_there(place: Place) -> bool:
    """Whether a file or folder of this machine lies at a place that a record names, whatever else that may be."""
    try:
        return isinstance(place, Path) and (place.is_dir() or place.is_file())
    except OSError:
        return False


def places_of(file: LatentFile, named: str | os.PathLike[str] | None = None) -> list[list[Place]]:
    """Where the data set of each source of a latent file may be: where it is named, then where the file says.

    The word of a file is followed on this machine alone, not to a URL.
    """
    first = [] if named is None else [place_of(named)]
    said = (place_of(source.path) for source in file.header.origin.sources)
    return [[*first, *([place] if is_there(place) else [])] for place in said]


class Originals:
    """The data sets of a latent file, as many as are at hand.

    Args:
        file: The latent file; it stays open.
        places: Where each of its sources may be, those that are tried first first.

    Raises:
        RecordError: The file does not say how its images were read.
    """

    def __init__(self, file: LatentFile, places: Sequence[Sequence[Place]]) -> None:
        self._file = file
        self.how = Preprocessing.read(file.path, file.header.origin.preprocessing)
        self._parts: list[_Part] = []
        self._used: set[Place] = set()
        self._refused: list[tuple[Place, NgvaeToolsError]] = []
        first = 0
        with ExitStack() as stack:
            for source, tried in zip(file.header.origin.sources, places, strict=True):
                stop = first + source.n_rows
                part = self._opened(source, tried, first, stop)
                if part is not None:
                    stack.enter_context(part.dataset)
                    self._parts.append(part)
                first = stop
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __bool__(self) -> bool:
        """Whether any image can be read."""
        return bool(self._parts)

    @property
    def location(self) -> str:
        """Where the images lie."""
        return ", ".join(dict.fromkeys(part.dataset.location for part in self._parts))

    @property
    def dataset(self) -> ImageDataset:
        """One of the data sets; all hold images of one shape."""
        return self._parts[0].dataset

    @property
    def rows(self) -> int:
        """How many rows' images lie in these data sets."""
        return sum(part.stop - part.first for part in self._parts)

    def of(self, rows: Rows) -> int:
        """How many of some rows' images lie in these data sets."""
        return sum(int(((part.first <= rows) & (rows < part.stop)).sum()) for part in self._parts)

    def refusal(self, place: Place) -> NgvaeToolsError | None:
        """Why no source is read from a place; None: one is."""
        if place in self._used:
            return None
        return next((error for refused, error in self._refused if refused == place), None)

    @property
    def why(self) -> str:
        """Why the images of some rows cannot be read; empty where nobody knows a place."""
        return str(self._refused[0][1]) if self._refused else ""

    def read(self, rows: Rows) -> Iterator[tuple[Rows, npt.NDArray[Any]]]:
        """Ascending rows, those of them whose images can be read, and the samples (n, H, W, C), a few at a time.

        Raises:
            DatasetError: A data set lacks an image.
        """
        for part in self._parts:
            first, stop = np.searchsorted(rows, [part.first, part.stop])
            own = rows[first:stop]
            index = part.index(self._file, own)
            # Ascending for a stored row number or a sorted name; rows of a latent file may come in another order.
            order = np.argsort(index, kind="stable")
            for places, samples in _pieces(part.dataset, index[order]):
                yield own[order[places]], samples

    def _opened(self, source: DataSource, places: Sequence[Place], first: int, stop: int) -> _Part | None:
        for place in places:
            dataset = None
            try:
                dataset = open_dataset(
                    place,
                    dataset_key=self.how.dataset_key,
                    image_shape=self.how.image_shape,
                    resize=self.how.resize,
                )
                check_data(dataset, source)
            except NgvaeToolsError as error:
                self._refused.append((place, error))
                if dataset is not None:
                    dataset.close()
            else:
                self._used.add(place)
                return _Part(dataset, source, first, stop)
        return None


def _place_of(dataset: ImageDataset, name: bytes) -> int:
    def at(number: int) -> bytes:
        return bytes(dataset.identifiers(number, number + 1)[0])

    number = bisect_left(range(len(dataset)), name, key=at)
    return number if number < len(dataset) and at(number) == name else -1


def _pieces(dataset: ImageDataset, index: Rows) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[Any]]]:
    """Places in an ascending index, and the samples of those that can be used."""
    packed = dataset.preferred_rows
    together = packed > 1 and packed * dataset.row_bytes <= AT_ONCE_BYTES and dataset.resize is None
    for places in _together(index, packed) if together else _runs(index, max(1, AT_ONCE_BYTES // _bytes_of(dataset))):
        start, stop = int(index[places[0]]), int(index[places[-1]]) + 1
        if together:
            # What is packed together is unpacked once, and not kept, where all of it is asked for.
            start, stop = start // packed * packed, min((start // packed + 1) * packed, len(dataset))
        samples, _ = dataset.read(start, stop)
        at = np.searchsorted(samples.index, index[places]) if len(samples) else np.zeros(len(places), np.intp)
        usable = at < len(samples)
        usable[usable] = samples.index[at[usable]] == index[places][usable]
        if usable.any():
            yield places[usable], samples.images[at[usable]]


def _together(index: Rows, packed: int) -> list[npt.NDArray[np.intp]]:
    """Places in an ascending index, those that are packed together in one piece."""
    return _split(np.flatnonzero(np.diff(index // packed)) + 1, len(index))


def _runs(index: Rows, most: int) -> list[npt.NDArray[np.intp]]:
    """Places in an ascending index, neighbours in one piece, `most` of them at most."""
    runs = _split(np.flatnonzero(np.diff(index) != 1) + 1, len(index))
    return [run[start : start + most] for run in runs for start in range(0, len(run), most)]


def _split(cuts: npt.NDArray[np.intp], count: int) -> list[npt.NDArray[np.intp]]:
    return np.split(np.arange(count), cuts) if count else []


def _bytes_of(dataset: ImageDataset) -> int:
    return max(dataset.row_bytes, math.prod(dataset.image_shape) * dataset.dtype.itemsize)
