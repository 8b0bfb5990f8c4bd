"""Rows of a chunked HDF5 dataset, read and decoded by any number of threads at once."""

from __future__ import annotations

import math
from threading import local
from typing import TYPE_CHECKING, Any

import numpy as np

from ngvae_tools.datasets.chunk_layout import CACHE_BYTES, SPARE_ROWS, ChunkLayout
from ngvae_tools.datasets.chunk_table import ChunkTable
from ngvae_tools.datasets.filters import DamagedChunkError
from ngvae_tools.datasets.windows import WindowCache
from ngvae_tools.files import FileBytes

if TYPE_CHECKING:
    import numpy.typing as npt

_KEPT_BYTES = 16 * 2**20


class ChunkedRows:
    """Rows of one dataset; none of HDF5's own state is used.

    Chunks of whole images that a range covers are decoded straight into the result. In all other cases all rows of a
    window (see `ChunkLayout`) are decoded and kept for the reads that follow: up to `CACHE_BYTES`, and one decoded
    chunk a thread beside it.

    A window's store is (I, J, rows, h, w, C) for I by J chunks of h by w pixels over an image, channels put together.

    Args:
        layout: How its chunks lie.
        table: Where its chunks lie.
        file: Their file.
    """

    def __init__(self, layout: ChunkLayout, table: ChunkTable, file: FileBytes) -> None:
        self._layout, self._table, self._file = layout, table, file
        self._fill = np.frombuffer(layout.fill, layout.dtype)[0]
        # Images without an axis of channels have one of length 1.
        grey = (1,) * (4 - len(layout.shape))
        self._height, self._width, self._channels = (*layout.shape[1:], *grey)
        self._chunks = (*layout.chunks, *grey)
        self._counts = (*layout.counts[1:], *grey)
        self._kept = local()
        self.cache = WindowCache(CACHE_BYTES)

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        """Rows (B, H, W, C) in the stored byte order, any values where they cannot be read; the reasons of those."""
        layout = self._layout
        images = np.empty((stop - start, self._height, self._width, self._channels), layout.dtype)
        bad: dict[int, str] = {}
        for layer, low, high in layout.windows(start, stop):
            first, end = max(start, low), min(stop, high)
            target = images[first - start : end - start]
            if layout.chunks[1:] == layout.shape[1:] and end - first == layout.chunks[0]:
                reason = self._decode(layer, 0, target)
            else:
                reason = self._read_window(layer, low, high, first, target)
            if reason is not None:
                bad |= dict.fromkeys(range(first, end), reason)
        return images, bad

    def _read_window(self, layer: int, low: int, high: int, first: int, target: npt.NDArray[Any]) -> str | None:
        base, rows = low - layer * self._chunks[0], high - low
        (down, across, _), (_, height, width, _) = self._counts, self._chunks

        def make() -> npt.NDArray[Any]:
            shape = (down, across, rows + SPARE_ROWS, height, width, self._channels)
            return np.empty(shape, self._layout.dtype)

        def decode(store: npt.NDArray[Any], part: int) -> str | None:
            chunk = self._scratch()
            if (reason := self._decode(layer, part, chunk)) is None:
                i, j, k = np.unravel_index(part, self._counts)
                begin = int(k) * self._chunks[3]
                into = store[i, j, :rows, :, :, begin : begin + self._chunks[3]]
                into[...] = chunk[base : base + rows, :, :, : into.shape[-1]]
            return reason

        with self.cache.open(low, rows=rows, parts=self._layout.parts, make=make, decode=decode) as window:
            begin, end = first - low, first - low + len(target)
            window.serve(begin, end)
            # The first reason in order of place, whichever thread met one first.
            reason = next((reason for reason in window.reasons if reason is not None), None)
            if reason is None:
                self._assemble(window.store[:, :, begin:end], target)
        return reason

    def _assemble(self, store: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
        """Put the chunks of (I, J, B, h, w, C) side by side into (B, H, W, C)."""
        height, width = store.shape[3:5]
        lines = target.reshape(len(target), self._height, -1)
        run, whole = width * self._channels, self._width // width
        # A line of a chunk is copied as one item.
        item = np.dtype((np.void, run * target.itemsize))
        for i, cells in enumerate(store):
            top, bottom = i * height, min((i + 1) * height, self._height)
            into = lines[:, top:bottom, : whole * run].view(item)
            into[...] = _as_items(cells[:whole], item).transpose(1, 2, 0)[:, : bottom - top]
            if self._width % width:
                rest = target[:, top:bottom, whole * width :]
                rest[...] = cells[whole, :, : bottom - top, : rest.shape[2]]

    def _scratch(self) -> npt.NDArray[Any]:
        """An array for one chunk, the thread's own."""
        chunk: npt.NDArray[Any] | None = getattr(self._kept, "chunk", None)
        if chunk is None:
            chunk = np.empty(self._chunks, self._layout.dtype)
            if math.prod(self._chunks) * chunk.itemsize <= _KEPT_BYTES:
                self._kept.chunk = chunk
        return chunk

    def _decode(self, layer: int, part: int, out: npt.NDArray[Any]) -> str | None:
        """Decode a chunk, of the chunks' own shape; why it cannot be decoded, if so."""
        layout = self._layout
        try:
            found = self._table.raw(layer, part, self._file)
            if found is None:
                out[...] = self._fill
            else:
                layout.filters.check(*found, layout.chunk_bytes)
                layout.filters.decode(*found, out.reshape(-1).view(np.uint8))
        except DamagedChunkError as error:
            return f"cannot be read: chunk {layout.corner(layer, part)} {error}"
        return None


def _as_items(cells: npt.NDArray[Any], item: np.dtype[Any]) -> npt.NDArray[Any]:
    """Cells (J, B, h, w, C), each line (w, C) contiguous, as (J, B, h) items of one line."""
    lines = cells.shape[:3]
    flat = np.lib.stride_tricks.as_strided(
        cells, (*lines, math.prod(cells.shape[3:])), (*cells.strides[:3], cells.itemsize), writeable=False
    )
    return flat.view(item)[..., 0]
