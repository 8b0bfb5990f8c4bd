"""How the chunks of an HDF5 dataset lie over its images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import h5py
import numpy as np

from ngvae_tools.datasets.filters import Filters

CACHE_BYTES = 2**30
"""Decoded rows that a data set keeps at most between reads, and while they are read."""

SPARE_ROWS = 5
"""Rows that a window has room for beyond its own, so that its chunks do not fall on the same lines of a CPU's cache."""

_BLOCK = 1024
_MAX_CHUNKS = 2**24


@dataclass(frozen=True, slots=True)
class ChunkLayout:
    """A grid of chunks, all of one shape, over an array (N, H, W) or (N, H, W, C).

    A layer is the chunks that the same rows lie in. A window is what is kept of a layer at once: all of its rows,
    or as many as fit into `CACHE_BYTES`.

    Attributes:
        shape: The array's shape.
        chunks: A chunk's shape, as many axes.
        dtype: As stored.
        filters: What a chunk went through.
        fill: The value of what was never written, as one item's bytes.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    filters: Filters
    fill: bytes

    @classmethod
    def of(cls, dataset: Any) -> Self | None:
        """The layout of a chunked dataset; None: it is left to HDF5 (another filter, an odd type, too many chunks)."""
        plan = dataset.id.get_create_plist()
        filters = Filters.of(plan)
        if dataset.chunks is None or filters is None or not is_plain(dataset):
            return None
        fill = np.zeros(1, dataset.dtype)
        defined = plan.fill_value_defined() != h5py.h5d.FILL_VALUE_UNDEFINED
        if defined and plan.get_fill_time() != h5py.h5d.FILL_TIME_NEVER:
            fill[0] = dataset.fillvalue
        shape, chunks = (tuple(int(n) for n in sizes) for sizes in (dataset.shape, dataset.chunks))
        layout = cls(shape, chunks, dataset.dtype, filters, fill.tobytes())
        # Files of HDF5 1.10 and later may leave the filters out of chunks that reach over the edge, and h5py does
        # not say which: shuffled or not, such a chunk has the same size.
        ambiguous = filters.stages and not filters.compressed and layout.reaches_over
        return layout if layout.layers * layout.parts <= _MAX_CHUNKS and not ambiguous else None

    @property
    def counts(self) -> tuple[int, ...]:
        """Chunks along each axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.counts[0]

    @property
    def parts(self) -> int:
        """Chunks of a layer."""
        return math.prod(self.counts[1:])

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def reaches_over(self) -> bool:
        """Whether chunks reach over an edge of the array."""
        return any(n % c for n, c in zip(self.shape, self.chunks, strict=True))

    @property
    def window_row_bytes(self) -> int:
        """Bytes of a row as it is kept, chunks that reach over the edge in full."""
        return self.parts * self.chunk_bytes // self.chunks[0]

    @property
    def window_rows(self) -> int:
        """Rows of a window; the last one of a layer may have fewer."""
        fitting = max(CACHE_BYTES // self.window_row_bytes - SPARE_ROWS, 1)
        if fitting >= self.chunks[0]:
            return self.chunks[0]
        return fitting - fitting % _BLOCK if fitting > _BLOCK else fitting

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Layer, first row and end of each window that has a row with start <= row < stop."""
        if start == stop:
            return
        rows, length = self.chunks[0], self.window_rows
        for layer in range(start // rows, -(-stop // rows)):
            base, end = layer * rows, min((layer + 1) * rows, self.shape[0])
            first = base + max(start - base, 0) // length * length
            for low in range(first, min(stop, end), length):
                yield layer, low, min(low + length, end)

    def corner(self, layer: int, part: int) -> tuple[int, ...]:
        """The first index of a chunk along each axis."""
        at = np.unravel_index(layer * self.parts + part, self.counts)
        return tuple(int(k) * c for k, c in zip(at, self.chunks, strict=True))


def is_plain(dataset: Any) -> bool:
    """Whether a dataset's bytes are its dtype's: no odd precision, offset or padding that HDF5 would convert."""
    return bool(dataset.id.get_type() == h5py.h5t.py_create(dataset.dtype))
