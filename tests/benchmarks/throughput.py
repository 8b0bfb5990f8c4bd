"""Images a second of our trainer and of pythae's, on the same networks, data and machine, in alternating pairs.

`python tests/benchmarks/throughput.py [--size 64] [--threads 1] [--pairs 15] [--options '{"precision": "bf16"}']`

Each trainer runs in a process of its own, as from its command line, and trains a plain VAE for one epoch when it is
its turn: pythae's BaseTrainer.train() with the defaults it has for a CPU (float32 images in memory, no worker
processes unless --workers says so), ours with Trainer.fit(); both write their checkpoint. The networks are the
paper's, for pythae as one writes them down in torch. The ratio of processor time is printed beside that of the clock:
where others load the machine it is the steadier one, but it leaves out waiting for the disk, and pythae's worker
processes. Needs the dependency group `peers`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

BATCH = 64
LATENT_DIM = 15


def ours(samples: np.ndarray, folder: Path, options: dict[str, object]) -> Callable[[], None]:
    """One epoch of our trainer."""
    from ngvae_tools.contract import InputScale
    from ngvae_tools.training.allocator import keep_freed_memory
    from ngvae_tools.training.config import TrainingConfig
    from ngvae_tools.training.data import TrainingImages
    from ngvae_tools.training.loop import Trainer
    from ngvae_tools.training.model import VariationalAutoencoder
    from ngvae_tools.training.sources import ImagesInMemory

    keep_freed_memory()
    common = {"model": "vae", "latent_dim": LATENT_DIM, "batch_size": BATCH, "epochs": 1, "device": "cpu"}
    config = TrainingConfig(**(common | options))
    rows = np.arange(len(samples))
    images = TrainingImages(ImagesInMemory(samples), rows, rows[:0], scale=InputScale())
    model = VariationalAutoencoder(config, samples.shape[1:], InputScale())
    return lambda: Trainer(model, images, config, folder).fit()


def pythaes(samples: np.ndarray, folder: Path, options: dict[str, object]) -> Callable[[], None]:
    """One epoch of pythae's trainer."""
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch import nn

    height, width, channels = samples.shape[1:]
    filters, pixels = (32, 32, 64, 64), height * width // 256

    class PaperEncoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            layers = []
            for inputs, outputs in itertools.pairwise((channels, *filters)):
                layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.LeakyReLU()]
            self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * pixels, 2 * LATENT_DIM))

        def forward(self, x):
            mu, log_variance = self.layers(x).chunk(2, dim=1)
            return ModelOutput(embedding=mu, log_covariance=log_variance)

    class PaperDecoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            layers = [nn.Linear(LATENT_DIM, 64 * pixels), nn.Unflatten(1, (64, height // 16, width // 16))]
            for inputs, outputs in itertools.pairwise((*reversed(filters), channels)):
                up = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
                layers += [nn.LeakyReLU(), up]
            self.layers = nn.Sequential(*layers)

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z))

    logging.disable(logging.INFO)
    images = torch.from_numpy(samples).permute(0, 3, 1, 2).contiguous().float() / 255
    data = BaseDataset(images, torch.zeros(len(images)))
    model = VAE(VAEConfig((channels, height, width), LATENT_DIM), PaperEncoder(), PaperDecoder())
    config = BaseTrainerConfig(
        output_dir=str(folder),
        num_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-3,
        train_dataloader_num_workers=options["workers"],
    )
    return lambda: BaseTrainer(model, data, training_config=config).train()


def child(which: str, arguments: argparse.Namespace) -> None:
    """Train one epoch for each line that comes in, and say how many seconds it took, by the clock and of processor."""
    import torch

    torch.set_num_threads(arguments.threads)
    shape = (arguments.steps * BATCH, arguments.size, arguments.size, 3)
    samples = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # pythae prints
    with tempfile.TemporaryDirectory() as folder:
        prepare, options = (
            (ours, json.loads(arguments.options)) if which == "ours" else (pythaes, {"workers": arguments.workers})
        )
        epoch = prepare(samples, Path(folder), options)
        for _ in sys.stdin:
            clock, processor = time.perf_counter(), time.process_time()
            epoch()
            print(time.perf_counter() - clock, time.process_time() - processor, file=answers, flush=True)


def main() -> None:
    """Print images/s of both and the median of the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--steps", type=int, default=94, help="an epoch; 94 are the 6,000 default sprites")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--options", default="{}")
    parser.add_argument("--child")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments)
        return
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    names = ("ours", "pythae")
    children = {
        name: subprocess.Popen(
            [sys.executable, __file__, *sys.argv[1:], "--child", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for name in names
    }

    def seconds(name: str) -> tuple[float, ...]:
        process = children[name]
        print("go", file=process.stdin, flush=True)
        return tuple(map(float, process.stdout.readline().split()))

    for name in names:
        seconds(name)
    taken = {name: [] for name in names}
    for _, name in itertools.product(range(arguments.pairs), names):
        taken[name].append(seconds(name))
    for process in children.values():
        process.stdin.close()
        process.wait()
    images = arguments.steps * BATCH
    for name in names:
        clock = statistics.median(seconds[0] for seconds in taken[name])
        print(f"{name}: {images / clock:.0f} images/s")
    quarter = arguments.pairs // 4
    for number, kind in enumerate(("clock", "processor")):
        ratios = sorted(theirs[number] / mine[number] for mine, theirs in zip(*taken.values(), strict=True))
        print(
            f"ours over pythae, {kind}: {statistics.median(ratios):.3f} in the median of {len(ratios)} pairs, half of "
            f"them from {ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}"
        )
    print(f"{arguments.size} x {arguments.size}, batch {BATCH}, {arguments.threads} thread(s) each")


if __name__ == "__main__":
    main()
