"""Reading latent files of seven dimensions, beside h5py: `python tests/benchmarks/latent_reading.py`."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import h5py
import numpy as np

from ngvae_tools.latents.reader import open_latents

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.latent_files import write

DIMENSIONS = 7
SNR = np.geomspace(50, 973, DIMENSIONS)
LOOKS, COLD_LOOKS, RUNS = 2000, 100, 5


def median_us(call: Callable[[int], object], arguments: Iterable[int]) -> float:
    """Median time of a call in microseconds."""
    times = []
    for argument in arguments:
        start = time.perf_counter()
        call(argument)
        times.append(time.perf_counter() - start)
    return median(times) * 1e6


def show(name: str, value: float, unit: str) -> None:
    """One row."""
    print(f"  {name:36}{value:16,.1f} {unit}", flush=True)


def ours(path: Path, rows: np.ndarray) -> None:
    """Rows of this package."""
    show("opening", median_us(lambda _: open_latents(path).close(), range(RUNS)), "us")
    with open_latents(path) as file:
        count = file.shape[0] * file.shape[1]
        file.to_numpy()
        show("a row, chunks decoded", median_us(lambda k: file[k], rows), "us")
        names = file.identifiers
        file.by_id(names[0])
        show("by_id, chunks decoded", median_us(lambda k: file.by_id(names[k]), rows), "us")
    with open_latents(path, cache_bytes=0) as file:
        show("a row, cache_bytes=0", median_us(lambda k: file[k], rows[:COLD_LOOKS]), "us")
        show("full read, cache_bytes=0", count / median_us(lambda _: file.to_numpy(), range(RUNS)), "million values/s")


def theirs(path: Path, rows: np.ndarray) -> None:
    """Rows of h5py, which turns codes into values by scale and offset too."""
    show("opening, h5py", median_us(lambda _: h5py.File(path).close(), range(RUNS)), "us")
    with h5py.File(path) as file:
        codes, scale, offset = file["codes"], file["scale"][:], file["offset"][:]
        full = median_us(lambda _: (offset + scale * codes[:]).astype(np.float32), range(RUNS))
        show("full read, h5py", codes.size / full, "million values/s")
        show("a row, h5py", median_us(lambda k: offset + scale * codes[k], rows[:COLD_LOOKS]), "us")


def main() -> None:
    """Print a table for each size and codec."""
    for n_rows in (100_000, 1_000_000):
        rng = np.random.default_rng(0)
        values = rng.normal(size=(n_rows, DIMENSIONS)) * np.sqrt(SNR)
        rows = rng.integers(0, n_rows, LOOKS)
        for codec in ("deflate", "archive"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "latents.h5"
                write(path, values, codec=codec, variance=1.0)
                print(f"{n_rows:,} rows, {codec}")
                ours(path, rows)
                if codec == "deflate":
                    theirs(path, rows)


if __name__ == "__main__":
    main()
