"""Cost of an NGVAE training step against a plain VAE step of the same networks, in pairs on a CPU.

`python tests/benchmarks/training_step.py`
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.model import VariationalAutoencoder

SHAPE = (64, 64, 3)
BATCH = 64
PAIRS = 40
STEPS = 4


def stepper(config: TrainingConfig):
    """A function that makes STEPS training steps and returns the seconds they took."""
    model = VariationalAutoencoder(config, SHAPE, InputScale())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    samples = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (BATCH, *SHAPE), dtype=np.uint8))

    def steps() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            loss = model.surrogate(model(samples, generator))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return time.perf_counter() - start

    return steps


def main() -> None:
    """Print the ratio of each kind of step to a plain VAE's."""
    plain = stepper(TrainingConfig(model="vae"))
    kinds = {
        "mixture": TrainingConfig(),
        "paper, pathwise": TrainingConfig(objective="paper"),
        "paper, g-rep": TrainingConfig(objective="paper", gradient="g-rep"),
    }
    for name, config in kinds.items():
        step = stepper(config)
        step(), plain()
        ratios = [step() / plain() for _ in range(PAIRS)]
        print(f"{name}: {statistics.median(ratios):.3f} of a plain VAE step (median of {PAIRS} pairs)")


if __name__ == "__main__":
    main()
