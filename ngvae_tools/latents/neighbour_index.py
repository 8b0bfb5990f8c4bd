"""An index of the rows of a latent file, by faiss, for files of millions of rows that are searched again and again.

It is an inverted file with flat vectors (IVF Flat): the latents, in units of the posterior's noise, are sorted into
about 4 sqrt(N) cells by k-means, and a query is compared with all rows of the 32 cells that are nearest to it. The
other common choice, a graph (HNSW), answers faster in hundreds of dimensions; a latent space of few informative
dimensions has no need of it: for 1,000,000 rows of 7 columns it took 172 MB in place of 36, and 30 times as long to
build.

The file beside the latents, `latents.h5.index`, starts with a line of JSON that names the latents it belongs to; then
follows the index as faiss writes it. An index holds nothing that the latent file does not; it can be deleted at any
time. faiss does not check what it reads as thoroughly as latent files are checked: use an index that you built.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OptionError, RecordError
from ngvae_tools.files import refuse_existing, replacing
from ngvae_tools.latents.neighbours import (
    Array,
    Neighbours,
    Rows,
    checked_queries,
    nearest,
    squared_distances,
    weights_of,
)
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.latents.tables import optional

FORMAT = "ngvae-latents-index"
VERSION = 1

CELLS_SEARCHED = 32
"""Cells whose rows a query is compared with."""

_ROWS_OF_A_CELL = 40
"""Rows for each cell at least; faiss's k-means wants 39."""

_LEARNT_FROM = 64
"""Rows for each cell that k-means learns from."""

_SPARE = 10
_HEAD_BYTES = 1024
_ROWS_AT_ONCE = 65536


@dataclass(frozen=True, slots=True)
class IndexBuilt:
    """An index that was written.

    Attributes:
        path: The file.
        rows: Number N of rows in it.
        cells: Number of cells.
        bytes: Size of the file.
    """

    path: str
    rows: int
    cells: int
    bytes: int


def index_path(file: LatentFile) -> Path:
    """Where the index of a latent file lies: beside it, with `.index` after its name."""
    return file.path.with_name(file.path.name + ".index")


def build_index(file: LatentFile, *, overwrite: bool = False) -> IndexBuilt:
    """Build the index of a latent file and write it beside the file; it is in memory while it is built.

    Raises:
        MissingDependencyError: faiss is not installed.
        OptionError: There is nothing to index, or its numbers are beyond float32.
        OutputError: There is an index already, or it cannot be written.
        RecordError: The file is damaged.
    """
    faiss = optional("faiss", extra="search")
    path = index_path(file)
    refuse_existing(path, overwrite=overwrite, found="an index")
    n_rows, columns = file.shape
    if not (n_rows and columns):
        raise OptionError(
            f"{file.path} cannot be indexed",
            expected="rows and at least one dimension",
            found=f"{n_rows:,} rows of {columns} columns",
            remedy="search it without an index",
        )
    cells = max(min(round(4 * math.sqrt(n_rows)), n_rows // _ROWS_OF_A_CELL), 1)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(columns), columns, cells)
    index.cp.min_points_per_centroid = 1
    index.cp.seed = 0
    learnt = np.unique(np.linspace(0, n_rows - 1, min(_LEARNT_FROM * cells, n_rows)).astype(np.int64))
    index.train(_scaled(file, file[learnt]))
    for start in range(0, n_rows, _ROWS_AT_ONCE):
        index.add(_scaled(file, file[start : start + _ROWS_AT_ONCE]))
    with replacing(path) as part, part.open("wb") as sink:
        sink.write(b" " * _HEAD_BYTES)
        digest = hashlib.sha256()

        def write(data: bytes) -> int:
            digest.update(data)
            return sink.write(data)

        faiss.write_index(index, faiss.PyCallbackIOWriter(write))
        sink.seek(0)
        sink.write(_head(_identity(file) | {"body_sha256": digest.hexdigest()}))
    return IndexBuilt(str(path), n_rows, cells, path.stat().st_size)


class NeighbourIndex:
    """The index of a latent file, opened; in memory.

    Args:
        file: The latent file.

    Raises:
        MissingDependencyError: faiss is not installed.
        RecordError: There is no index, it is damaged, or it is that of other latents.
    """

    def __init__(self, file: LatentFile) -> None:
        faiss = optional("faiss", extra="search")
        self._file = file
        self._index = _read(index_path(file), file, lambda read: faiss.read_index(faiss.PyCallbackIOReader(read)))
        self._index.nprobe = CELLS_SEARCHED

    def nearest(self, queries: npt.ArrayLike, count: int = 10) -> Neighbours:
        """As `ngvae_tools.latents.neighbours.nearest`; a row in a cell that was not searched is missed.

        The distances are exact, and so is the order of the rows that were found.

        Raises:
            OptionError: The queries do not fit the file, or the count is below 1.
            RecordError: The file is damaged.
        """
        wanted = checked_queries(self._file, queries, count)
        size = min(count, len(self._file))
        with np.errstate(over="ignore"):
            asked = (wanted * weights_of(self._file)).astype(np.float32)
        if not np.isfinite(asked).all():
            return nearest(self._file, wanted, count)
        squares, rows = self._index.search(asked, min(2 * count + _SPARE, len(self._file)))
        # faiss computes in float32, where rows that are nearly as far as the last may change places with it.
        distances = np.sqrt(squares.astype(np.float64))
        slack = 1e-5 * distances[:, size - 1] + 1e-6 * np.linalg.norm(asked.astype(np.float64), axis=1)
        rows[distances > (distances[:, size - 1] + slack)[:, None]] = -1
        rows, squares = self._by_distance(rows.astype(np.int64), wanted)
        found = Neighbours(rows[:, :size], np.sqrt(squares[:, :size]))
        missed = (found.rows == len(self._file)).any(axis=1)
        if missed.any():
            # Their cells hold fewer rows than were asked for.
            rest = nearest(self._file, wanted[missed], count)
            found.rows[missed], found.distances[missed] = rest.rows, rest.distances
        return found

    def _by_distance(self, rows: Rows, queries: Array) -> tuple[Rows, Array]:
        """Rows and squared distances by exact distance, then by row; -1, for no row, becomes N, infinitely far."""
        n_rows, weights = len(self._file), weights_of(self._file)
        rows = np.where(rows < 0, n_rows, rows)
        known, places = np.unique(np.minimum(rows, n_rows - 1), return_inverse=True)
        values = self._file[known]
        squares = np.empty(rows.shape)
        for query, place in enumerate(places.reshape(rows.shape)):
            squares[query] = squared_distances(values[place], queries[query : query + 1], weights)[0]
        squares[rows == n_rows] = np.inf
        order = np.lexsort((rows, squares), axis=-1)
        return np.take_along_axis(rows, order, 1), np.take_along_axis(squares, order, 1)


def _scaled(file: LatentFile, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Values (n, d) in units of the posterior's noise."""
    with np.errstate(over="ignore"):
        scaled = np.ascontiguousarray(values * weights_of(file), np.float32)
    if not np.isfinite(scaled).all():
        raise OptionError(
            f"{file.path} cannot be indexed",
            expected="latents whose multiples of the posterior's noise fit float32",
            found="larger ones",
            remedy="search it without an index",
        )
    return scaled


def _identity(file: LatentFile) -> dict[str, Any]:
    """What an index must agree with: the codes, what they mean, and the units of the distance."""
    coding = file.header.coding
    meaning = hashlib.sha256()
    for array in (coding.scale, coding.offset, file.posterior_variance):
        meaning.update(np.ascontiguousarray(array, "<f8").tobytes())
    return {
        "format": FORMAT,
        "version": VERSION,
        "codes_sha256": file.header.codes_sha256,
        "scales_sha256": meaning.hexdigest(),
    }


def _head(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts, sort_keys=True).encode().ljust(_HEAD_BYTES - 1) + b"\n"


def _read(path: Path, file: LatentFile, load: Callable[[Callable[[int], bytes]], Any]) -> Any:
    remedy = f"build it again with: ngvae-tools latents index {file.path} --overwrite, or delete it"
    try:
        with path.open("rb") as source:
            facts = json.loads(source.read(_HEAD_BYTES))
            expected = _identity(file)
            found = {name: facts.get(name) for name in expected}
            if found != expected:
                differs = [name for name in expected if found[name] != expected[name]]
                raise RecordError(
                    f"{path} is not the index of {file.path} as it is now",
                    expected=", ".join(f"{name} {expected[name]}" for name in differs),
                    found=", ".join(str(found[name]) for name in differs),
                    remedy=remedy,
                )
            if hashlib.file_digest(source, "sha256").hexdigest() != facts["body_sha256"]:
                raise ValueError("its checksum does not fit")  # noqa: TRY301
            source.seek(_HEAD_BYTES)
            index = load(source.read)
            if (index.ntotal, index.d) != file.shape:
                raise ValueError(f"{index.ntotal} rows of {index.d} columns")  # noqa: TRY301
            return index
    except FileNotFoundError:
        raise RecordError(
            f"{file.path} has no index", expected=str(path), found="no such file", remedy="build it, or do without"
        ) from None
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise RecordError(
            f"{path} cannot be read", expected="an index that was built", found=str(error)[:200], remedy=remedy
        ) from None
