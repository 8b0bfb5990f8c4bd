"""Nearest images among 1,000,000 x 7 latents: seconds of the exact search and of the index, and what the index misses.

`python tests/benchmarks/neighbours.py [ROWS]` writes a latent file into a temporary folder and searches it. The
latents are those of a cloud whose density varies: 200 clusters of different width beside a wide normal distribution.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from latent_files import write

from ngvae_tools.latents.neighbour_index import CELLS_SEARCHED, NeighbourIndex, build_index
from ngvae_tools.latents.neighbours import nearest
from ngvae_tools.latents.reader import LatentFile

DIM = 7
COUNT = 10
QUERIES = 200


def latents(rows: int) -> np.ndarray:
    """Latents (rows, DIM), half of them in clusters."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((rows, DIM))
    half = rows // 2
    cluster = rng.integers(200, size=half)
    centres, widths = rng.standard_normal((200, DIM)), rng.uniform(0.05, 0.3, 200)
    values[:half] = centres[cluster] + widths[cluster, None] * values[:half]
    return rng.permutation(values).astype(np.float32)


def timed(what: str, call):
    """The result of a call, whose seconds are printed."""
    start = time.perf_counter()
    found = call()
    print(f"{what}: {time.perf_counter() - start:.3f} s", flush=True)
    return found


def main() -> None:
    """Print every figure, with the machine's load."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{rows:,} x {DIM}, {os.process_cpu_count() if hasattr(os, 'process_cpu_count') else os.cpu_count()} cores")
    print("load", os.getloadavg()[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latents.h5"
        timed("write", lambda: write(path, latents(rows), variance=np.linspace(0.001, 0.05, DIM)))
        rng = np.random.default_rng(1)
        chosen = rng.choice(rows, QUERIES, replace=False)
        with LatentFile(path) as file:
            inside = file[chosen]
        outside = rng.standard_normal((QUERIES, DIM))
        with LatentFile(path) as file:
            timed("exact, 1 query, file opened just now", lambda: nearest(file, inside[:1], COUNT))
            timed("exact, 1 query again", lambda: nearest(file, inside[:1], COUNT))
            exact = timed(f"exact, {QUERIES} queries", lambda: nearest(file, inside, COUNT))
            far = nearest(file, outside, COUNT)
            built = timed("index, build", lambda: build_index(file))
            print(f"index: {built.bytes:,} bytes, {built.cells:,} cells, {CELLS_SEARCHED} searched")
        with LatentFile(path) as file:
            index = timed("index, open", lambda: NeighbourIndex(file))
            timed("index, 1 query", lambda: index.nearest(inside[:1], COUNT))
            timed("index, 1 query, another", lambda: index.nearest(inside[1:2], COUNT))
            found = timed(f"index, {QUERIES} queries", lambda: index.nearest(inside, COUNT))
            start = time.perf_counter()
            for query in inside:
                index.nearest(query[None], COUNT)
            print(f"index, a query of {QUERIES} one by one: {1000 * (time.perf_counter() - start) / QUERIES:.2f} ms")
            for name, one, other in (("rows", exact, found), ("draws", far, index.nearest(outside, COUNT))):
                # Codes are multiples of a step: many rows are as far as the tenth but for rounding; any will do.
                as_near = other.distances <= one.distances[:, -1:] * (1 + 1e-6)
                print(f"recall@{COUNT} of {QUERIES} {name}: {as_near.mean():.4f}, least {as_near.mean(1).min():.1f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, load", os.getloadavg()[0])


if __name__ == "__main__":
    main()
