"""Where the chunks of an HDF5 dataset lie in their file."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ngvae_tools.datasets.chunk_layout import ChunkLayout
from ngvae_tools.datasets.filters import DamagedChunkError
from ngvae_tools.files import FileBytes

if TYPE_CHECKING:
    import numpy.typing as npt

_AT_ONCE = 2**14
_LARGEST = 2**62
_SLACK = 1024


class ChunkTable:
    """Offset, size and filter mask of each chunk: 16 bytes a chunk, and 4 more once a filter was left out.

    HDF5 has no look-up of one chunk that does not walk over all of them, so they are listed once.
    """

    def __init__(self, layout: ChunkLayout) -> None:
        self._layout = layout
        count = layout.layers * layout.parts
        self._offsets = np.full(count, -1, np.int64)
        self._sizes = np.zeros(count, np.int64)
        # Pages that are never written take no memory.
        self._masks = np.zeros(count, np.uint32)

    @classmethod
    def read(cls, dataset: Any, layout: ChunkLayout, file: FileBytes) -> Self | None:
        """List a dataset's chunks; None: HDF5 cannot, or its offsets do not lead to what it reads there itself."""
        table = cls(layout)
        axes = len(layout.shape)
        pending = array("q")
        seen = 0

        def note(info: Any) -> bool | None:
            nonlocal seen
            seen += 1
            offset = -1 if info.byte_offset is None else min(info.byte_offset, _LARGEST)
            pending.extend(info.chunk_offset)
            pending.extend((offset, min(info.size, _LARGEST), info.filter_mask))
            if len(pending) >= _AT_ONCE * (axes + 3):
                table._take(pending)
                del pending[:]
            # A damaged index may lead in circles.
            return True if seen > 2 * len(table._offsets) + _AT_ONCE else None

        try:
            if dataset.id.chunk_iter(note) is not None:
                return None
        except (AttributeError, OSError, RuntimeError, ValueError, OverflowError):
            return None
        table._take(pending)
        return table if table._holds(dataset, file) else None

    def raw(self, layer: int, part: int, file: FileBytes) -> tuple[bytes, int] | None:
        """A chunk's bytes as they lie in the file, and its filter mask; None: it was never written.

        Raises:
            DamagedChunkError: It cannot be where it is said to be, or the file cannot be read there.
        """
        number = layer * self._layout.parts + part
        offset, size = int(self._offsets[number]), int(self._sizes[number])
        if offset < 0:
            return None
        if size > 2 * self._layout.chunk_bytes + _SLACK:
            raise DamagedChunkError(f"has {size:,} bytes, too many for {self._layout.chunk_bytes:,}")
        if offset + size > file.size:
            raise DamagedChunkError("lies beyond the end of the file")
        try:
            data = file.read(offset, size)
        except OSError as error:
            raise DamagedChunkError(f"fails: {error.strerror or error}") from error
        if len(data) < size:
            raise DamagedChunkError("lies beyond the end of the file")
        return data, int(self._masks[number])

    def _take(self, pending: array[int]) -> None:
        axes = len(self._layout.shape)
        rows = np.array(pending, np.int64).reshape(-1, axes + 3)
        at = rows[:, :axes] // np.array(self._layout.chunks)
        # A dataset that was made smaller may keep chunks outside.
        inside = ((at >= 0) & (at < np.array(self._layout.counts))).all(axis=1)
        rows, at = rows[inside], at[inside]
        numbers = np.ravel_multi_index(tuple(at.T), self._layout.counts)
        self._offsets[numbers], self._sizes[numbers] = rows[:, axes], rows[:, axes + 1]
        masked = rows[:, axes + 2] != 0
        self._masks[numbers[masked]] = rows[masked, axes + 2]

    def _holds(self, dataset: Any, file: FileBytes) -> bool:
        """Whether the last chunk is where the table says, and chunks at the edge went through the filters."""
        written = np.flatnonzero(self._offsets >= 0)
        if not len(written):
            return False
        layer, part = divmod(int(written[-1]), self._layout.parts)
        try:
            found = self.raw(layer, part, file)
            if found is not None and dataset.id.read_direct_chunk(self._layout.corner(layer, part)) != found[::-1]:
                return False
        except DamagedChunkError:
            # Nothing to compare with; it is rejected when it is read.
            pass
        except (OSError, RuntimeError, ValueError):
            return False
        return not self._edges_unfiltered(written)

    def _edges_unfiltered(self, written: npt.NDArray[np.int64]) -> bool:
        """Whether all chunks that reach over the edge have the size of plain ones, although none says so."""
        layout = self._layout
        if not layout.filters.stages or not layout.reaches_over:
            return False
        at = np.unravel_index(written, layout.counts)
        sides = zip(at, layout.counts, layout.shape, layout.chunks, strict=True)
        over = np.any([(k == count - 1) & (n % c != 0) for k, count, n, c in sides], axis=0)
        edges = written[over & (self._masks[written] == 0)]
        return bool(len(edges)) and bool((self._sizes[edges] == layout.chunk_bytes).all())
