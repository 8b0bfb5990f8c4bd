"""Where training images come from: memory, or a data set that is read ahead of the training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ngvae_tools.datasets import ImageDataset, ImageShape
from ngvae_tools.errors import DatasetError


class ImageSource(Protocol):
    """Samples by their rows in the data set."""

    image_shape: ImageShape
    dtype: np.dtype[Any]
    block: int
    """Rows that are best read together."""

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Samples (n, H, W, C) in the order of the rows."""

    def batches(self, windows: Iterable[npt.NDArray[np.int64]], sizes: Iterable[int]) -> Iterator[npt.NDArray[Any]]:
        """The samples of all windows in their order, cut into batches of these sizes."""

    def close(self) -> None:
        """Release open files."""


class ImagesInMemory:
    """All samples of a data set, (N, H, W, C), each at its row; those of rejected images are never asked for."""

    def __init__(self, samples: npt.NDArray[Any], block: int = 1) -> None:
        self.samples = samples
        height, width, channels = samples.shape[1:]
        self.image_shape: ImageShape = (height, width, channels)
        self.dtype = samples.dtype
        self.block = block

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Samples (n, H, W, C) in the order of the rows."""
        return self.samples[rows]

    def batches(self, windows: Iterable[npt.NDArray[np.int64]], sizes: Iterable[int]) -> Iterator[npt.NDArray[Any]]:
        """The samples of all windows in their order, cut into batches of these sizes."""
        return (self.samples[rows] for rows in recut(windows, sizes))

    def close(self) -> None:
        """Nothing is open."""


class StreamedImages:
    """A data set that is read a window at a time, one window ahead.

    While one window is trained on, a thread reads the next. It ends with the iterator.

    Args:
        dataset: The data set; its images had all been read once.
        block: Rows that are best read together.
        gap: Rows are read in one go when they lie closer than this; what lies between is read in vain.
        at_once: Rows of one read, at most.
    """

    def __init__(self, dataset: ImageDataset, *, block: int, gap: int, at_once: int) -> None:
        self.dataset = dataset
        self.image_shape = dataset.image_shape
        self.dtype = dataset.dtype
        self.block = block
        self.gap = gap
        self.at_once = at_once

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Samples (n, H, W, C) in the order of the rows."""
        return self._read(rows, Event())

    def batches(self, windows: Iterable[npt.NDArray[np.int64]], sizes: Iterable[int]) -> Iterator[npt.NDArray[Any]]:
        """The samples of all windows in their order, cut into batches of these sizes."""
        return recut(_one_ahead(self._read, windows), sizes)

    def close(self) -> None:
        """Release open files."""
        self.dataset.close()

    def _read(self, rows: npt.NDArray[np.int64], stop: Event) -> npt.NDArray[Any]:
        samples = np.empty((len(rows), *self.image_shape), self.dtype)
        by_row = np.argsort(rows)
        for run in _runs(rows[by_row], self.gap, self.at_once):
            if stop.is_set():
                break
            wanted = by_row[run]
            first, last = int(rows[wanted[0]]), int(rows[wanted[-1]])
            block, bad = self.dataset.read(first, last + 1)
            found = np.searchsorted(block.index, rows[wanted])
            found[found == len(block)] = 0
            missing = np.ones(len(wanted), bool) if len(block) == 0 else block.index[found] != rows[wanted]
            if missing.any():
                row = int(rows[wanted[missing][0]])
                raise _changed(next(rejection for rejection in bad if rejection.index == row))
            samples[wanted] = block.images[found]
        return samples


def recut(arrays: Iterable[npt.NDArray[Any]], sizes: Iterable[int]) -> Iterator[npt.NDArray[Any]]:
    """The rows of all arrays in their order, in pieces of these sizes; a piece within one array is a view."""
    source = iter(arrays)
    left: npt.NDArray[Any] | None = None
    for size in sizes:
        parts: list[npt.NDArray[Any]] = []
        missing = size
        while missing:
            if left is None or not len(left):
                # The window that is used up must not stay in memory while the next but one is read.
                left = None
                left = next(source)
            parts.append(left[:missing])
            left = left[missing:]
            missing -= len(parts[-1])
        yield parts[0] if len(parts) == 1 else np.concatenate(parts)


def _one_ahead(
    read: Callable[[npt.NDArray[np.int64], Event], npt.NDArray[Any]], windows: Iterable[npt.NDArray[np.int64]]
) -> Iterator[npt.NDArray[Any]]:
    stop = Event()
    following = iter(windows)
    with ThreadPoolExecutor(1, "training images") as thread:
        coming: Future[npt.NDArray[Any]] | None = None

        def start() -> None:
            nonlocal coming
            window = next(following, None)
            coming = None if window is None else thread.submit(read, window, stop)

        try:
            start()
            while coming is not None:
                samples = coming.result()
                start()
                yield samples
                del samples
        finally:
            stop.set()


def _runs(rows: npt.NDArray[np.int64], gap: int, at_once: int) -> Iterator[slice]:
    """Slices of ascending rows, each to be read in one go."""
    start = 0
    for position in range(1, len(rows) + 1):
        if (
            position == len(rows)
            or rows[position] - rows[position - 1] > gap
            or rows[position] - rows[start] >= at_once
        ):
            yield slice(start, position)
            start = position


def _changed(rejection: Any) -> DatasetError:
    return DatasetError(
        "the data set has changed since the training began",
        expected="every image that could be read at first",
        found=f"{rejection.identifier} {rejection.reason}",
        remedy="restore the data and resume the run, or train again on what is there now",
    )
