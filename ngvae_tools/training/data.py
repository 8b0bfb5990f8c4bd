"""Training images in memory: read once, scaled by what the training share holds, a share held out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import ImageDataset, Rejection
from ngvae_tools.errors import DatasetError

PERCENTILES = (0.1, 99.9)
"""Of the training samples; they become 0 and 1 for uint16 and float32 images."""

READ_AT_ONCE = 1024

MAX_SCALE_SAMPLES = 20_000_000
"""Numbers that the percentiles are taken of, at most, but at least those of one image."""


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images of a run.

    Attributes:
        samples: All usable samples in the data set's own type, shape (N, H, W, C).
        train: Indices of the training share, shape (n,).
        held_out: Indices of the held-out share, shape (N - n,); may be empty.
        scale: How samples are brought to [0, 1].
        rejected: What could not be used.
    """

    samples: npt.NDArray[Any]
    train: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    scale: InputScale
    rejected: tuple[Rejection, ...]


def load_images(dataset: ImageDataset, *, held_out: float, seed: int) -> TrainingImages:
    """Read a data set into memory and split it.

    Raises:
        DatasetError: It does not fit into memory, or fewer than two usable images remain to train on.
    """
    shape = (len(dataset), *dataset.image_shape)
    size = int(np.prod(shape)) * dataset.dtype.itemsize
    memory = _memory()
    if memory is not None and size > 0.7 * memory:
        raise DatasetError(
            "the images do not fit into memory",
            expected=f"at most {0.7 * memory / 2**30:.1f} GiB to train on",
            found=f"{size / 2**30:.1f} GiB",
            remedy="train on fewer images, or on smaller ones with --resize and --size",
        )
    samples = np.empty(shape, dtype=dataset.dtype)
    rejected: list[Rejection] = []
    count = 0
    for start in range(0, len(dataset), READ_AT_ONCE):
        block, bad = dataset.read(start, min(start + READ_AT_ONCE, len(dataset)))
        samples[count : count + len(block.images)] = block.images
        count += len(block.images)
        rejected += bad
    samples = samples[:count]
    n_held_out = round(count * held_out)
    if count - n_held_out < 2:
        reason = f" ({rejected[0].identifier}: {rejected[0].reason})" if rejected else ""
        raise DatasetError(
            "too few images to train on",
            expected="at least two usable images in the training share",
            found=f"{count - n_held_out} of {len(dataset)}{reason}",
            remedy="name a data set with more images, or a smaller --held-out",
        )
    order = np.random.default_rng(seed).permutation(count)
    train = np.sort(order[n_held_out:])
    return TrainingImages(
        samples=samples,
        train=train,
        held_out=np.sort(order[:n_held_out]),
        scale=_scale_of(samples, train),
        rejected=tuple(rejected),
    )


def _memory() -> int | None:
    """Bytes of memory of this machine, or of its container; None where it does not say (Windows)."""
    if not hasattr(os, "sysconf"):
        return None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdecimal() else memory


def _scale_of(samples: npt.NDArray[Any], train: npt.NDArray[np.int64]) -> InputScale:
    if samples.dtype == np.uint8:
        return InputScale()
    # A bounded, evenly spaced subset decides as well as all.
    count = min(len(train), 1000, max(MAX_SCALE_SAMPLES // samples[0].size, 1))
    subset = samples[train[np.linspace(0, len(train) - 1, count).round().astype(int)]]
    low, high = (float(v) for v in np.percentile(subset, PERCENTILES))
    if not high > low:
        low, high = float(subset.min()), float(subset.max())
    return InputScale(low, high if high > low else low + 1.0)
