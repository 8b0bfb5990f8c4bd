"""Rows of a chunked HDF5 dataset, read and decoded by any number of threads at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ngvae_tools.datasets.chunk_layout import CACHE_BYTES, ChunkLayout
from ngvae_tools.datasets.chunk_table import ChunkTable, FileBytes
from ngvae_tools.datasets.filters import DamagedChunkError
from ngvae_tools.datasets.windows import Part, WindowCache

if TYPE_CHECKING:
    import numpy.typing as npt


class ChunkedRows:
    """Rows of one dataset; none of HDF5's own state is used.

    Windows (see `ChunkLayout`) that a range covers are decoded straight into the result. Of one that it cuts, all rows
    are decoded and kept for the reads that follow: up to `CACHE_BYTES`, and one decoded chunk a thread beside it.

    Args:
        layout: How its chunks lie.
        table: Where its chunks lie.
        file: Their file.
    """

    def __init__(self, layout: ChunkLayout, table: ChunkTable, file: FileBytes) -> None:
        self._layout, self._table, self._file = layout, table, file
        self._places = [layout.place(part) for part in range(layout.parts)]
        self._fill = np.frombuffer(layout.fill, layout.dtype)[0]
        # One chunk a layer that is the rows themselves, in their order.
        self._whole = layout.chunks[1:] == layout.shape[1:]
        self.cache = WindowCache(CACHE_BYTES)

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """Rows as stored, any values where they cannot be read, and the reasons of those."""
        layout = self._layout
        images = np.empty((stop - start, *layout.shape[1:]), layout.dtype)
        bad: dict[int, str] = {}
        for layer, low, high in layout.windows(start, stop):
            first, end = max(start, low), min(stop, high)
            target = images[first - start : end - start]
            if (first, end) == (low, high):
                reason = self._straight(layer, low, high, target)
            else:
                reason = self._shared(layer, low, high, first, target)
            if reason is not None:
                bad |= dict.fromkeys(range(first, end), reason)
        return images, bad

    def _straight(self, layer: int, low: int, high: int, target: npt.NDArray[Any]) -> str | None:
        if self._whole and high - low == self._layout.chunks[0]:
            part = self._decoded(layer, 0, target)
            if part is None:
                target[...] = self._fill
            return part if isinstance(part, str) else None
        base = low - layer * self._layout.chunks[0]
        reason = None
        for number in range(self._layout.parts):
            part = self._decoded(layer, number)
            if isinstance(part, str):
                reason = reason or part
            else:
                self._put(number, part if part is None else part[base : base + high - low], target)
        return reason

    def _shared(self, layer: int, low: int, high: int, first: int, target: npt.NDArray[Any]) -> str | None:
        layout = self._layout
        base = low - layer * layout.chunks[0]

        def decode(number: int) -> Part:
            part = self._decoded(layer, number)
            if part is None or isinstance(part, str) or high - low == layout.chunks[0]:
                return part
            return part[base : base + high - low].copy()

        size = (high - low) * layout.window_row_bytes
        with self.cache.open(low, rows=high - low, parts=layout.parts, size=size, decode=decode) as window:
            begin, end = first - low, first - low + len(target)
            window.serve(begin, end)
            # The first reason in order of place, whichever thread met one first.
            for part in window.parts:
                if isinstance(part, str):
                    return part
            for number, part in enumerate(window.parts):
                self._put(number, part[begin:end] if isinstance(part, np.ndarray) else None, target)
        return None

    def _decoded(self, layer: int, number: int, out: npt.NDArray[Any] | None = None) -> Part:
        layout = self._layout
        try:
            if (found := self._table.raw(layer, number, self._file)) is None:
                return None
            raw, mask = found
            layout.filters.check(raw, mask, layout.chunk_bytes)
            chunk = np.empty(layout.chunks, layout.dtype) if out is None else out
            layout.filters.decode(raw, mask, chunk.reshape(-1).view(np.uint8))
        except DamagedChunkError as error:
            return f"cannot be read: chunk {layout.corner(layer, number)} {error}"
        return chunk

    def _put(self, number: int, part: npt.NDArray[Any] | None, target: npt.NDArray[Any]) -> None:
        inside, own = self._places[number]
        target[(slice(None), *inside)] = self._fill if part is None else part[(slice(None), *own)]
