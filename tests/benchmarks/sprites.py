"""Sprites a second, written to HDF5 at 64x64 on one core: `taskset -c 0 python tests/benchmarks/sprites.py`."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from ngvae_tools.datasets import write_sprites

IMAGES = 20_000


def main() -> None:
    """Print images a second of three runs."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        for run in range(3):
            start = time.perf_counter()
            write_sprites(Path(folder) / f"{run}.h5", images=IMAGES, size=64, seed=run)
            print(f"{IMAGES / (time.perf_counter() - start):,.0f} images/s")


if __name__ == "__main__":
    main()
