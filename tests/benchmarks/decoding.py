"""Images a second read from a folder, by Pillow alone and by the fast decoders, with one thread and with two.

`python tests/benchmarks/decoding.py [--images 1500] [--rounds 5]`

Both read the same files in the same process, in turn; the best round counts, since other processes only slow down.
The load of the machine is printed: on two busy cores a second thread gains nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import ngvae_tools.datasets.folder as folder_module
from ngvae_tools.datasets import FolderImages
from ngvae_tools.datasets.decode import decode_file
from ngvae_tools.datasets.pillow import decode_with_pillow

sys.path.insert(0, str(Path(__file__).parents[1]))
from bad_files import encoded, photograph

CHUNK = 256
# Name, format, side in pixels, whether to resize to 64, options of the writer.
CASES: list[tuple[str, str, int, bool, dict[str, Any]]] = [
    ("PNG 64", "PNG", 64, False, {}),
    ("JPEG 256 to 64", "JPEG", 256, True, {"quality": 90}),
    ("JPEG 256", "JPEG", 256, False, {"quality": 90}),
    ("JPEG 64", "JPEG", 64, False, {"quality": 90}),
    ("TIFF 64", "TIFF", 64, False, {}),
    ("TIFF 64 LZW", "TIFF", 64, False, {"compression": "tiff_lzw"}),
    ("TIFF 64 deflate", "TIFF", 64, False, {"compression": "tiff_adobe_deflate"}),
]


def by_pillow(path: bytes, _: np.ndarray | None = None) -> np.ndarray:
    """The way without fast decoders."""
    return decode_with_pillow(Path(os.fsdecode(path)).read_bytes())


def rate(data: FolderImages, threads: int) -> float:
    """Images a second."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first: data.read(first, min(first + CHUNK, len(data))), range(0, len(data), CHUNK)))
    return len(data) / (time.perf_counter() - start)


def measure(name: str, data: FolderImages, rounds: int) -> None:
    """Print one line."""
    ways = {"Pillow": by_pillow, "fast": decode_file}
    images, best = {}, dict.fromkeys([(way, threads) for way in ways for threads in (1, 2)], 0.0)
    for _ in range(rounds):
        for way, decode in ways.items():
            folder_module.decode_file = decode
            images[way] = data.read(0, CHUNK)[0].images
            for threads in (1, 2):
                best[way, threads] = max(best[way, threads], rate(data, threads))
    np.testing.assert_array_equal(images["Pillow"], images["fast"])
    gains = [best["fast", threads] / best["Pillow", threads] for threads in (1, 2)]
    figures = "".join(f"{figure:10.0f}" for figure in best.values())
    print(f"{name:16s}{figures}{gains[0]:10.2f}{gains[1]:10.2f}", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    heads = ("Pillow 1", "Pillow 2", "fast 1", "fast 2", "gain 1", "gain 2")
    print(" " * 16 + "".join(f"{head:>10s}" for head in heads))
    with tempfile.TemporaryDirectory() as place:
        for name, form, side, resize, options in CASES:
            folder = Path(place) / name
            folder.mkdir()
            for number in range(given.images):
                data = encoded(photograph(side, side, seed=number % 100), form, **options)
                (folder / f"{number:06d}.{form.lower()}").write_bytes(data)
            shape, how = ((64, 64, 3), "stretch") if resize else (None, None)
            measure(name, FolderImages(folder, image_shape=shape, resize=how), given.rounds)


if __name__ == "__main__":
    main()
