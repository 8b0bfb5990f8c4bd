"""Images a second of select-latents, against the limit of this machine and against what people write by hand.

`python tests/benchmarks/encoding.py [--rounds 5] [--workers 2] [--images 30000] [--only png ...]`

The encoder is the paper's at 64x64. For each kind of data, in one process and in alternating rounds:

decode      workers that only read and decode (and resize), by the same pieces
encode      workers that only encode, on decoded images in memory
pipeline    all of select-latents' pass: read, decode, encode, statistics, bootstrap, shards on the disk
limit       1 / (1 / decode + 1 / encode): what workers that do both could reach at best

For PNG also what a script would do: torch's DataLoader (0, 1 and 2 workers, batch 64) with Pillow and the encoder in
torch, and a loop with Pillow and onnxruntime as it comes. Medians over the rounds of ratios within a round.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from ngvae_tools.datasets import open_dataset, write_sprites
from ngvae_tools.inference.local import TURN, run_shards
from ngvae_tools.inference.providers import available_cpus
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.inference.shard_file import write_shard
from ngvae_tools.inference.shards import ShardPlan, ShardSettings

SIZE = 64
KINDS = ("png", "jpeg", "gzip", "contiguous")


def make_model() -> Any:
    """The paper's model, untrained."""
    from ngvae_tools.contract import InputScale
    from ngvae_tools.training.config import TrainingConfig
    from ngvae_tools.training.model import VariationalAutoencoder

    return VariationalAutoencoder(TrainingConfig(latent_dim=15), (SIZE, SIZE, 3), InputScale())


def make_encoder(folder: Path) -> Path:
    """Its encoder as ONNX."""
    from exporters.networks import export_model

    path = folder / "encoder.onnx"
    export_model(make_model(), path, folder / "decoder.onnx", sample_type="uint8", resize="stretch")
    return path


def make_data(folder: Path, images: int, kinds: list[str]) -> dict[str, Path]:
    """The same sprites as each kind."""
    source = folder / "sprites.h5"
    write_sprites(source, images=images, size=SIZE)
    with h5py.File(source) as file:
        samples = file["images"][:]
    places = {}
    if "png" in kinds:
        places["png"] = folder / "png"
        places["png"].mkdir()
        for k, sample in enumerate(samples):
            Image.fromarray(sample).save(places["png"] / f"{k:06d}.png")
    if "jpeg" in kinds:
        places["jpeg"] = folder / "jpeg"
        places["jpeg"].mkdir()
        for k, sample in enumerate(samples[: images // 3]):
            large = Image.fromarray(sample).resize((256, 256), Image.Resampling.BICUBIC)
            large.save(places["jpeg"] / f"{k:06d}.jpg", quality=90)
    for kind, options in (("gzip", {"compression": "gzip", "chunks": (256, SIZE, SIZE, 3)}), ("contiguous", {})):
        if kind in kinds:
            places[kind] = folder / f"{kind}.h5"
            with h5py.File(places[kind], "w") as file:
                file.create_dataset("images", data=samples, **options)
    return places


def in_threads(workers: int, work: Callable[[int, int], None], ranges: list[tuple[int, int]]) -> float:
    """Seconds in which threads work off ranges."""
    left, lock = iter(ranges), threading.Lock()

    def run() -> None:
        while True:
            with lock:
                taken = next(left, None)
            if taken is None:
                return
            work(*taken)

    threads = [threading.Thread(target=run) for _ in range(workers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def ours(encoder: Path, data: Path, workers: int, folder: Path) -> dict[str, Callable[[], float]]:
    """What is measured of ours: functions that give images a second."""
    session = EncoderSession(encoder, device="cpu", threads=1, at_once=workers)
    dataset = open_dataset(data, image_shape=(SIZE, SIZE, 3), resize="stretch")
    plan = ShardPlan.of(len(dataset), image_bytes=SIZE * SIZE * 3, values=30)
    shards = [plan.shard(number) for number in range(plan.n_shards)]
    ranges = [piece for shard in shards for piece in plan.pieces(shard)]
    samples = dataset.read(0, plan.piece)[0].images

    def encode(start: int, stop: int) -> None:
        for first in range(0, stop - start, 32):
            session.encode(samples[first : min(first + 32, stop - start)])

    def pipeline() -> float:
        started = time.perf_counter()
        run_shards(
            dataset,
            session,
            plan,
            range(plan.n_shards),
            ShardSettings(batch_size=32, replicates=200),
            workers=workers,
            keep=lambda result: write_shard(folder / f"{result.shard.number}.npz", result),
            on_done=lambda _: None,
        )
        return len(dataset) / (time.perf_counter() - started)

    def decode(start: int, stop: int) -> None:
        dataset.read(start, stop)

    return {
        "decode": lambda: len(dataset) / in_threads(workers, decode, ranges),
        "encode": lambda: len(dataset) / in_threads(workers, encode, ranges),
        "pipeline": pipeline,
    }


class Files:
    """What a script gives to torch's DataLoader."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> Any:
        import torch

        with Image.open(self.paths[k]) as image:
            return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


@functools.cache
def _opened(encoder: Path) -> tuple[Any, Any]:
    import onnxruntime

    return make_model().eval(), onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])


def with_loader(encoder: Path, data: Path, workers: int) -> float:
    """Images a second of a DataLoader, Pillow and torch."""
    import torch
    from torch.utils.data import DataLoader

    files = Files(sorted(data.iterdir()))
    model, _ = _opened(encoder)
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in DataLoader(files, batch_size=64, num_workers=workers):
            model.encoder(batch)
    return len(files) / (time.perf_counter() - started)


def with_pillow(encoder: Path, data: Path) -> float:
    """Images a second of Pillow and onnxruntime."""
    paths = sorted(data.iterdir())
    _, session = _opened(encoder)
    started = time.perf_counter()
    for start in range(0, len(paths), 64):
        batch = []
        for path in paths[start : start + 64]:
            with Image.open(path) as image:
                batch.append(np.asarray(image.convert("RGB")))
        session.run(None, {session.get_inputs()[0].name: np.stack(batch)})
    return len(paths) / (time.perf_counter() - started)


def by_hand(pool: ProcessPoolExecutor, encoder: Path, data: Path) -> dict[str, Callable[[], float]]:
    """What a script would do, in a process of its own, whose idle threads disturb nobody."""
    loops: dict[str, Callable[[], float]] = {
        f"DataLoader, {n} workers": lambda n=n: pool.submit(with_loader, encoder, data, n).result() for n in (0, 1, 2)
    }
    return loops | {"Pillow + onnxruntime": lambda: pool.submit(with_pillow, encoder, data).result()}


def main() -> None:
    """Print images a second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=available_cpus())
    parser.add_argument("--images", type=int, default=30000)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    sys.setswitchinterval(TURN)  # as in a pass, for what is measured alone too
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        folder = Path(name)
        encoder = make_encoder(folder)
        for kind, data in make_data(folder, options.images, options.only).items():
            measured = ours(encoder, data, options.workers, folder)
            if kind == "png":
                measured |= by_hand(pool, encoder, data)
            rounds = []
            for k in range(options.rounds + 1):
                found = {what: measure() for what, measure in measured.items()}
                if k:  # the first warms caches up
                    rounds.append(found)
            report(kind, rounds)


def report(kind: str, rounds: list[dict[str, float]]) -> None:
    """Print one kind's figures."""
    print(f"{kind}: " + ", ".join(f"{what} {statistics.median(r[what] for r in rounds):,.0f}/s" for what in rounds[0]))
    limits = [r["pipeline"] * (1 / r["decode"] + 1 / r["encode"]) for r in rounds]
    print(f"  of the limit: {statistics.median(limits):.3f} ({min(limits):.3f} to {max(limits):.3f})")
    loaders = [what for what in rounds[0] if what.startswith("DataLoader")]
    if loaders:
        best = [r["pipeline"] / max(r[what] for what in loaders) for r in rounds]
        print(f"  over the best DataLoader: {statistics.median(best):.2f} ({min(best):.2f} to {max(best):.2f})")
        plain = [r["pipeline"] / r["Pillow + onnxruntime"] for r in rounds]
        print(f"  over Pillow + onnxruntime: {statistics.median(plain):.2f} ({min(plain):.2f} to {max(plain):.2f})")


if __name__ == "__main__":
    main()
