"""Training images: the split, the scale, the order; in memory where they fit comfortably, else streamed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import ImageDataset, ImageShape, Rejection, RowImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.reporting.rejections import RejectionTally
from ngvae_tools.reporting.words import plain
from ngvae_tools.training.order import Partition, epoch_order
from ngvae_tools.training.sources import ImagesInMemory, ImageSource, StreamedImages

PERCENTILES = (0.1, 99.9)
"""Of the training samples; they become 0 and 1 for uint16 and float32 images."""

MAX_SCALE_SAMPLES = 20_000_000
"""Numbers that the percentiles are taken of, at most, but at least those of one image."""

MEMORY_SHARE = 0.25
"""Of the machine's memory, or its container's: up to here all images are held in memory."""

WINDOW_BYTES = 256 * 2**20
"""Of images that are shuffled together; two such windows are in memory when images are streamed."""

BLOCK_BYTES = 2**16
"""Of neighbouring rows of a file that stay in one window; more where the file's chunks are larger."""

LARGEST_BLOCK = 1 / 16
"""Of a window: larger chunks are read several times an epoch, so that a window still mixes distant rows."""

READ_BYTES = 2**24
"""Of one read."""

MAX_READ_ROWS = 1024


class TrainingImages:
    """The images of a run, as batches of raw samples (B, H, W, C).

    The order of an epoch is a function of the seed and its number alone, the same in memory and streamed. Use it
    as a context manager, or close it.

    Args:
        source: Where samples come from.
        train: Rows of the training share, ascending, shape (n_train,).
        held_out: Rows of the held-out share, ascending, shape (n_held_out,); may be empty.
        scale: How samples are brought to [0, 1].
        rejected: What could not be used.
        seed: Of the order.
        window_bytes: Of images that are shuffled together.
    """

    def __init__(
        self,
        source: ImageSource,
        train: npt.NDArray[np.int64],
        held_out: npt.NDArray[np.int64],
        *,
        scale: InputScale,
        rejected: tuple[Rejection, ...] = (),
        seed: int = 0,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self.source = source
        self.train_rows = train
        self.held_out_rows = held_out
        self.scale = scale
        self.rejected = rejected
        self.seed = seed
        self.window = max(window_bytes // (math.prod(source.image_shape) * source.dtype.itemsize), 1)

    @property
    def n_train(self) -> int:
        """Number of training images."""
        return len(self.train_rows)

    @property
    def n_held_out(self) -> int:
        """Number of held-out images."""
        return len(self.held_out_rows)

    @property
    def image_shape(self) -> ImageShape:
        """(H, W, C) of one sample."""
        return self.source.image_shape

    @property
    def streamed(self) -> bool:
        """Whether images are read again in every epoch."""
        return isinstance(self.source, StreamedImages)

    def steps(self, batch_size: int, *, world: int = 1) -> int:
        """Steps of an epoch, the same in every process.

        Raises:
            OptionError: There are fewer training images than processes.
        """
        return Partition(self.n_train, batch_size, world).steps

    def epoch(
        self, number: int, batch_size: int, *, rank: int = 0, world: int = 1, skip: int = 0
    ) -> Iterator[npt.NDArray[Any]]:
        """Batches of an epoch; close the iterator if it is not used up.

        Args:
            number: Which epoch, from 1.
            batch_size: Images a process takes in a full step.
            rank: Which of the processes this is.
            world: How many there are; together they see each training image once, in as many steps each. Batches
                of a step differ by at most one image.
            skip: Steps to leave out at the start; windows that lie before them are not read.

        Raises:
            DatasetError: An image that could be read at first no longer can.
            OptionError: There are fewer training images than processes.
        """
        partition = Partition(self.n_train, batch_size, world, rank)
        order = epoch_order(self.train_rows, block=self.source.block, window=self.window, seed=self.seed, epoch=number)
        return self.source.batches(partition.share(order, skip), partition.sizes(skip))

    def held_out(self, batch_size: int) -> Iterator[npt.NDArray[Any]]:
        """Batches of the held-out images, in the order of their rows.

        Raises:
            DatasetError: An image that could be read at first no longer can.
        """
        n = self.n_held_out
        windows = (self.held_out_rows[start : start + self.window] for start in range(0, n, self.window))
        return self.source.batches(windows, (min(batch_size, n - start) for start in range(0, n, batch_size)))

    def close(self) -> None:
        """Release open files."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_sharers = 1


def share_memory(processes: int) -> None:
    """Say that so many processes of one pool run on this machine at once, each with training data of its own.

    From here on, the memory that images are held in by default is this process's part of it.
    """
    global _sharers  # noqa: PLW0603 - a fact of the whole process
    _sharers = processes


def load_images(
    dataset: ImageDataset,
    *,
    held_out: float,
    seed: int,
    memory: int | None = None,
    processes: int = 1,
    window_bytes: int = WINDOW_BYTES,
) -> TrainingImages:
    """Read every image of a data set once, and split it.

    Images that fit into `memory` bytes stay there. Others are read again in every epoch, while memory holds two
    windows of images, one read and HDF5's cache of chunks, whatever the number of images, and some fifty bytes an
    image for the order.

    Args:
        dataset: The data set; closing what is returned closes it.
        held_out: Share of the images that is not trained on.
        seed: Of the split and of the order.
        memory: Bytes up to which images are held in memory; None: a quarter of the machine's or container's,
            shared with the other processes of a pool, see `share_memory`.
        processes: How many processes hold the images and share that memory.
        window_bytes: Of images that are shuffled together.

    Raises:
        DatasetError: Fewer than two usable images remain to train on.
    """
    shape = (len(dataset), *dataset.image_shape)
    image_bytes = math.prod(dataset.image_shape) * dataset.dtype.itemsize
    row_bytes = dataset.row_bytes
    at_once = min(max(READ_BYTES // row_bytes, 1), MAX_READ_ROWS)
    block = _block(dataset, window_bytes)
    limit = _memory() if memory is None else memory
    limit = None if limit is None else limit // processes
    samples = np.empty(shape, dataset.dtype) if limit is None or len(dataset) * image_bytes <= limit else None
    usable = np.zeros(len(dataset), bool)
    rejected: list[Rejection] = []
    for start in range(0, len(dataset), at_once):
        read, bad = dataset.read(start, min(start + at_once, len(dataset)))
        if samples is not None:
            samples[read.index] = read.images
        usable[read.index] = True
        rejected += bad
    source: ImageSource = (
        StreamedImages(dataset, block=block, gap=block, at_once=at_once)
        if samples is None
        else ImagesInMemory(samples, block)
    )
    _refuse_too_few(dataset, usable, held_out, rejected)
    train, kept = _split(usable, held_out, seed)
    return TrainingImages(
        source,
        train,
        kept,
        scale=_scale_of(source, train),
        rejected=tuple(rejected),
        seed=seed,
        window_bytes=window_bytes,
    )


def _refuse_too_few(
    dataset: ImageDataset, usable: npt.NDArray[np.bool_], held_out: float, rejected: list[Rejection]
) -> None:
    """Raise `DatasetError` if fewer than two images remain to train on."""
    n_usable = int(usable.sum())
    n_train = n_usable - round(n_usable * held_out)
    if n_train >= 2:
        return
    found = f"{n_train} of {len(usable)}"
    remedy = "name a data set with more images, or a smaller --held-out"
    if rejected:
        tally = RejectionTally()
        tally.update(rejected)
        found += f": {tally.in_full()}"
        if (first := dataset.shape_from) is not None:
            first = plain(first)
            found += f"; {first}, the first image that can be read, says what size and type the others must have"
            remedy = f"move {first} out of the data where it is the odd one, or pass --resize where only sizes differ"
    raise DatasetError(
        "too few images to train on",
        expected="at least two usable images in the training share",
        found=found,
        remedy=remedy,
    )


def _split(
    usable: npt.NDArray[np.bool_], held_out: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    rows = np.flatnonzero(usable)
    n_held_out = round(len(rows) * held_out)
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[np.sort(order[n_held_out:])], rows[np.sort(order[:n_held_out])]


def _block(dataset: ImageDataset, window_bytes: int) -> int:
    """Rows that stay together in the order: whole chunks, unless these are too large to mix well."""
    if dataset.chunk_rows == 1 and not isinstance(dataset, RowImages):
        return 1
    chunks = max(BLOCK_BYTES // (dataset.chunk_rows * dataset.row_bytes), 1) * dataset.chunk_rows
    return max(min(chunks, int(LARGEST_BLOCK * window_bytes) // dataset.row_bytes), 1)


def _memory() -> int | None:
    """This process's part of a comfortable share of this machine's memory, or its container's.

    None where the machine does not say (Windows).
    """
    if not hasattr(os, "sysconf"):
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        limit = ""
    return int(MEMORY_SHARE * (min(memory, int(limit)) if limit.isdecimal() else memory)) // _sharers


def _scale_of(source: ImageSource, train: npt.NDArray[np.int64]) -> InputScale:
    if source.dtype == np.uint8:
        return InputScale()
    # A bounded, evenly spaced subset decides as well as all.
    count = min(len(train), 1000, max(MAX_SCALE_SAMPLES // math.prod(source.image_shape), 1))
    subset = source.take(train[np.linspace(0, len(train) - 1, count).round().astype(int)])
    low, high = (float(v) for v in np.percentile(subset, PERCENTILES))
    if not high > low:
        low, high = float(subset.min()), float(subset.max())
    return InputScale(low, high if high > low else low + 1.0)
