"""What 100,000 latents take in a latent file and by other means: `python tests/benchmarks/latent_codecs.py`.

The unit is the Shannon entropy of the symbols at delta 1 %. Files count less their identifiers. The error is the mean
squared one as a share of the posterior variance, averaged over dimensions. Real latents are those of the sample
encoder over sprites; they take a pass of a minute or more.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import imagecodecs
import numpy as np

from ngvae_tools.datasets import write_sprites
from ngvae_tools.latents.reader import open_latents
from ngvae_tools.workflows.select import select_latents

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.latent_files import write

ROWS = 100_000
ENCODER = Path(__file__).parents[2] / "sample_data" / "encoder.onnx"
WIDTH = 27


def sets() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, latents (N, d) and posterior variance (d,) of each set."""
    rng = np.random.default_rng(0)
    one = np.ones(7)
    yield "under 256 levels", rng.normal(size=(ROWS, 7)) * np.sqrt(np.geomspace(5, 100, 7)), one
    yield "over 256 levels", rng.normal(size=(ROWS, 7)) * np.sqrt(np.geomspace(50, 973, 7)), one
    yield "heavy-tailed", rng.standard_t(4, size=(ROWS, 7)) * np.sqrt(np.geomspace(5, 100, 7) / 2), one
    yield "uniform", rng.uniform(-1, 1, (ROWS, 7)) * np.sqrt(3 * np.geomspace(5, 100, 7)), one
    yield "up to 8,000 levels", rng.normal(size=(ROWS, 7)) * np.geomspace(3, 310, 7), one
    yield "some under 1.5 bits", rng.normal(size=(ROWS, 7)) * np.sqrt([0.01, 0.02, 0.04, 1, 20, 50, 100]), one
    yield "sample encoder", *sample_latents()


def sample_latents() -> tuple[np.ndarray, np.ndarray]:
    """Informative latents of the sample encoder over sprites, not rounded, and their posterior variance."""
    from ngvae_tools.workflows.storing import StoreOptions

    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "sprites.h5"
        write_sprites(images, images=ROWS, size=32)
        select_latents(ENCODER, images, Path(folder) / "out", storing=StoreOptions(lossless=True))
        with open_latents(Path(folder) / "out", dtype=np.float64) as file:
            return file.to_numpy(), file.posterior_variance


def stored(values: np.ndarray, variance: np.ndarray, codec: str, folder: Path) -> tuple[float, float]:
    """Print the row of a codec; bytes of the entropy, and error."""
    path = folder / f"{codec}.h5"
    start = time.perf_counter()
    header = write(path, values, codec=codec, variance=variance)
    wrote = time.perf_counter() - start
    start = time.perf_counter()
    with open_latents(path, dtype=np.float64) as file:
        read = file.to_numpy()
        took = time.perf_counter() - start
        storage = file.storage()
    size, entropy = storage.file - storage.identifiers, float(header.entropy.sum()) * len(values) / 8
    notes = f"  {wrote:.2f} s to write, {took:.2f} s to read, codes alone {storage.codes / entropy:.4f}"
    show(f"latents.h5, {codec}", size, entropy, error(read, values, variance), notes)
    bits = ", ".join(f"{b:.2f}/{e:.2f}" for b, e in zip(storage.bits, header.entropy, strict=True))
    print(f"  bits a value over entropy: {bits}")
    return entropy, float(header.max_error.max())


def error(read: np.ndarray, values: np.ndarray, variance: np.ndarray) -> float:
    """Mean squared error as a share of the posterior variance."""
    return float((((read - values) ** 2).mean(axis=0) / variance).mean())


def show(name: str, size: int, entropy: float, share: float, notes: str = "") -> None:
    """One row."""
    print(f"{name:{WIDTH}}{size / ROWS:8.3f} B{size / entropy:8.4f}{share:12.2e}{notes}", flush=True)


def gzip_bytes(codes: np.ndarray, folder: Path) -> int:
    """Codes in HDF5 as h5py writes them with its own filters."""
    with h5py.File(folder / "gzip.h5", "w") as file:
        chunks = (min(4096, len(codes)), codes.shape[1])
        data = file.create_dataset("codes", data=codes, chunks=chunks, compression="gzip", compression_opts=4)
        return int(data.id.get_storage_size())


def blosc2(values: np.ndarray, shuffle: int) -> int:
    """Columns one after another, blosc2 with zstd."""
    flat = np.ascontiguousarray(values.T)
    options = {"compressor": imagecodecs.BLOSC2.COMPRESSOR.ZSTD, "shuffle": shuffle, "typesize": flat.itemsize}
    return len(imagecodecs.blosc2_encode(flat.tobytes(), level=5, **options))


def pcodec(codes: np.ndarray) -> int:
    """Whole columns; pcodec has no type of one byte."""
    return sum(len(imagecodecs.pcodec_encode(np.ascontiguousarray(c, dtype="<u2"), level=12)) for c in codes.T)


def zfp(values: np.ndarray, variance: np.ndarray, most: float) -> tuple[int, float]:
    """Columns scaled to a noise of 1, in the coarsest fixed accuracy that errs by `most` at most; size and error.

    zfp rounds its tolerance down to a power of two and errs by less than it, so larger ones are tried first.
    """
    mode, noise, size = imagecodecs.ZFP.MODE.FIXED_ACCURACY, np.sqrt(variance), 0
    read = np.empty_like(values)
    for k, column in enumerate((values / noise).astype(np.float32).T):
        flat = np.ascontiguousarray(column)
        for tolerance in (4 * most, 2 * most, most):
            packed = imagecodecs.zfp_encode(flat, level=tolerance, mode=mode)
            found = imagecodecs.zfp_decode(packed).reshape(-1)
            if np.abs(found - flat).max() <= most:
                break
        size += len(packed)
        read[:, k] = found * noise[k]
    return size, error(read, values, variance)


def others(values: np.ndarray, variance: np.ndarray, entropy: float, folder: Path) -> None:
    """Rows of other means."""
    half, single = values.astype("<f2"), values.astype("<f4")
    shuffle = imagecodecs.BLOSC2.FILTER.SHUFFLE
    bits = imagecodecs.BLOSC2.FILTER.BITSHUFFLE
    for level in (3, 19):
        size = len(imagecodecs.zstd_encode(half.tobytes(), level=level))
        show(f"float16, zstd {level}", size, entropy, error(half.astype(float), values, variance))
    show("float32, blosc2 shuffle", blosc2(single, shuffle), entropy, error(single.astype(float), values, variance))
    step = np.sqrt(0.12 * variance)
    numbers = np.rint(values / step).astype(np.int64)
    share = error(numbers * step, values, variance)
    numbers -= numbers.min(axis=0)
    codes = numbers.astype("<u1" if numbers.max() < 256 else "<u2")
    rows: list[tuple[str, Callable[[], int]]] = [
        ("codes, zstd 19 row-major", lambda: len(imagecodecs.zstd_encode(codes.tobytes(), level=19))),
        ("codes, HDF5 gzip-4", lambda: gzip_bytes(codes, folder)),
        ("codes, blosc2 bitshuffle", lambda: blosc2(codes, bits)),
        ("codes, pcodec", lambda: pcodec(codes)),
    ]
    for name, size_of in rows:
        show(name, size_of(), entropy, share)
    size, share = zfp(values, variance, np.sqrt(0.12) / 2)
    show("float32, zfp, same maximum", size, entropy, share)


def main() -> None:
    """Print a table for each set."""
    for name, values, variance in sets():
        levels = np.ptp(np.rint(values / np.sqrt(0.12 * variance)), axis=0).astype(int) + 1
        print(f"\n{name}: {values.shape[1]} dimensions of {levels.min():,} to {levels.max():,} levels")
        print("".ljust(WIDTH) + "an image".rjust(10) + "ratio".rjust(8) + "error".rjust(12))
        with tempfile.TemporaryDirectory() as folder:
            for codec in ("deflate", "archive"):
                entropy, _ = stored(values, variance, codec, Path(folder))
            print(f"{'entropy':{WIDTH}}{entropy / ROWS:8.3f} B")
            others(values, variance, entropy, Path(folder))


if __name__ == "__main__":
    main()
