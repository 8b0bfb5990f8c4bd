"""What a user is told of an HDF5 file whose layout is slow to read."""

from __future__ import annotations

import math
import shlex
from pathlib import PurePath
from typing import Any

from ngvae_tools.datasets.chunk_layout import ChunkLayout

_BLOCK = 1024
_MUCH = 4
_MANY = 16
_CHUNK_BYTES = 2**20


def advice(location: str, key: str, dataset: Any, layout: ChunkLayout | None) -> str | None:
    """One sentence, computed from the layout: what is found, what it costs, what to write instead; None: it is fine.

    Args:
        location: The file, as it may be written down.
        key: The dataset's name.
        dataset: The dataset.
        layout: How its chunks lie; None: they are read through HDF5, by one thread at a time.
    """
    if dataset.chunks is None:
        return None
    shape, chunks = tuple(dataset.shape), tuple(dataset.chunks)
    row = math.prod(shape[1:]) * dataset.dtype.itemsize
    rows = min(_BLOCK, shape[0])
    layers = -(-rows // chunks[0])
    parts = math.prod(-(-n // c) for n, c in zip(shape[1:], chunks[1:], strict=True))
    decoded = layers * parts * math.prod(chunks) * dataset.dtype.itemsize
    costs = []
    if decoded >= _MUCH * rows * row or parts >= _MANY:
        verb = "decodes" if layout is None or layout.filters.stages else "reads"
        costs.append(
            f"a block of {rows:,} images ({_size(rows * row)}), or one image alone, {verb} {layers * parts:,} chunks "
            f"({_size(decoded)} in all; one image {_size(decoded // layers)})"
            if layers > 1
            else f"one image, or a block of {rows:,} ({_size(rows * row)}), {verb} {parts:,} chunks ({_size(decoded)})"
        )
    if layout is None:
        costs.append("only one thread at a time can read it")
    elif layout.window_rows < chunks[0]:
        costs.append(
            f"reading it in order decodes each chunk {-(-chunks[0] // layout.window_rows)} times, to bound memory"
        )
    if not costs:
        return None
    better = (2 ** int(math.log2(max(min(_CHUNK_BYTES // row, _BLOCK), 1))), *shape[1:])
    while better[0] > shape[0]:
        better = (better[0] // 2, *shape[1:])
    blocks = -(-rows // better[0])
    name = PurePath(location)
    command = shlex.join(
        [
            "h5repack",
            *("-l", f"{key.strip('/')}:CHUNK={'x'.join(map(str, better))}"),
            *("-f", f"{key.strip('/')}:GZIP=4"),
            location,
            f"{name.stem}-repacked{name.suffix}",
        ]
    )
    return (
        f"{key!r} is stored in chunks of {chunks}: {'; '.join(costs)}; written again in chunks of {better} "
        f"a block decodes {blocks:,} ({_size(blocks * better[0] * row)}) and one image 1 ({_size(better[0] * row)}), "
        f"by as many threads as there are: {command}"
    )


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
