"""Reading 64x64x3 images of HDF5 layouts in blocks of 1,024 in order: `python tests/benchmarks/hdf5_layouts.py`.

Each case runs in a process of its own. Peak memory is the growth of that process's resident memory while it reads.
Cores are processor time over wall time: below the number of threads where others use the machine, or where threads
wait for each other; processor time an image does not depend on the former.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from ngvae_tools.datasets import HDF5Images
from ngvae_tools.datasets.sprite_factors import sample_factors
from ngvae_tools.datasets.sprites import render

IMAGES = 24 * 1024
BLOCK = 1024
RUNS = 3
LAYOUTS = {
    "contiguous": {},
    "gzip, chunks (64, 64, 64, 3)": {"chunks": (64, 64, 64, 3), "compression": "gzip"},
    "gzip, chunks (8192, 4, 4, 1)": {"chunks": (8192, 4, 4, 1), "compression": "gzip"},
}


def write(path: Path, options: dict) -> None:
    """Sprites with a little noise, so that gzip packs them to about 0.4 of their size."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        images = render(sample_factors(2048, 0), 64)
        images = images + rng.integers(0, 4, images.shape, np.uint8) * (rng.random(images.shape) < 0.3)
        images = images.astype(np.uint8)
        data = np.concatenate([np.roll(images, k, axis=2) for k in range(IMAGES // 2048)])
        file.create_dataset("images", data=data, **options)


def peak_kib() -> int:
    """Largest resident memory of this process so far; `getrusage` would count its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def stream(read: Callable[[int, int], object], threads: int) -> tuple[float, float]:
    """Images a second, and processor time in microseconds an image."""
    ranges = [(k, min(k + BLOCK, IMAGES)) for k in range(0, IMAGES, BLOCK)]
    start, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda r: read(*r) and None, ranges):
            pass
    return IMAGES / (time.perf_counter() - start), (time.process_time() - used) / IMAGES * 1e6


def one(path: Path, how: str, threads: int) -> None:
    """Print images a second and the growth of the peak memory of one case as JSON."""
    if how == "ours":
        with HDF5Images(path) as dataset:
            dataset.read(0, 0)
            before = peak_kib()
            speed = stream(dataset.read, threads)
    else:
        with h5py.File(path) as file:
            dataset = file["images"]
            before = peak_kib()
            speed = stream(lambda a, b: len(dataset[a:b]), threads)
    print(json.dumps([*speed, (peak_kib() - before) / 1024]))


def main() -> None:
    """Print a table; the unit is one thread of ours on the well-chunked file."""
    if len(sys.argv) > 1:
        one(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
        return
    found: dict[tuple[str, str, int], tuple[float, float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, options) in enumerate(LAYOUTS.items()):
            path = Path(folder) / f"{number}.h5"
            write(path, options)
            for how in ("ours", "h5py"):
                for threads in (1, 2):
                    runs = [
                        json.loads(subprocess.check_output([sys.executable, __file__, path, how, str(threads)]))
                        for _ in range(1 if how == "h5py" and "8192" in name else RUNS)
                    ]
                    found[name, how, threads] = (*max(runs)[:2], max(r[2] for r in runs))
            with HDF5Images(path) as dataset:
                print(f"{name}: {dataset.layout_advice() or 'nothing to advise'}")
            path.unlink()
    unit = found["gzip, chunks (64, 64, 64, 3)", "ours", 1][0]
    titles = ("reader", "threads", "images/s", "ratio", "over h5py", "CPU us", "cores", "peak MiB")
    print("layout".ljust(30) + "".join(title.rjust(11) for title in titles))
    for (name, how, threads), (speed, used, peak) in found.items():
        over = speed / found[name, "h5py", threads][0]
        ratios = (f"{speed / unit:.2f}", f"{over:.2f}", f"{used:.1f}", f"{used * speed / 1e6:.2f}")
        row = (how, str(threads), f"{speed:,.0f}", *ratios, f"{peak:,.0f}")
        print(name.ljust(30) + "".join(cell.rjust(11) for cell in row))


if __name__ == "__main__":
    main()
