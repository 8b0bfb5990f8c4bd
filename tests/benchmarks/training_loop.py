"""What the training loop adds to bare forward-backward-optimiser steps on the same batches, in pairs.

`python tests/benchmarks/training_loop.py [side in pixels] [pairs]`
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import TrainingImages
from ngvae_tools.training.loop import Trainer
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.sources import ImagesInMemory

STEPS = 10
BATCH = 64
MODELS = {"vae": {"model": "vae"}, "adaptive": {}, "paper": {"objective": "paper"}}


def main() -> None:
    """Print the median ratio for each model."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    shape = (side, side, 3)
    samples = np.random.default_rng(0).integers(0, 256, (STEPS * BATCH, *shape), dtype=np.uint8)
    images = TrainingImages(ImagesInMemory(samples), np.arange(len(samples)), np.empty(0, np.int64), scale=InputScale())
    batches = [torch.from_numpy(samples[start : start + BATCH]) for start in range(0, len(samples), BATCH)]
    for name, options in MODELS.items():
        config = TrainingConfig(**options, epochs=1, device="cpu")
        bare = VariationalAutoencoder(config, shape, InputScale())
        optimiser = torch.optim.Adam(bare.parameters(), lr=config.learning_rate, fused=True)
        generator = torch.Generator().manual_seed(0)

        def bare_steps(model=bare, optimiser=optimiser, generator=generator) -> float:
            start = time.perf_counter()
            for batch in batches:
                loss = model.surrogate(model(batch, generator))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
            return time.perf_counter() - start

        with tempfile.TemporaryDirectory() as folder:
            model = VariationalAutoencoder(config, shape, InputScale())
            trainer = Trainer(model, images, config, Path(folder), lambda _: None)

            def loop_steps(trainer=trainer) -> float:
                start = time.perf_counter()
                trainer.step = 0
                trainer._steps(1)
                return time.perf_counter() - start

            bare_steps(), loop_steps()
            ratios = []
            for pair in range(pairs):
                # Who goes first alternates, so that a drift of the machine falls on both.
                if pair % 2:
                    loop, plain = loop_steps(), bare_steps()
                else:
                    plain, loop = bare_steps(), loop_steps()
                ratios.append(loop / plain)
        print(f"{name}, {side} x {side}: {statistics.median(ratios):.3f} of bare steps (median of {pairs} pairs)")


if __name__ == "__main__":
    main()
