"""Cost of an NGVAE training step against a plain VAE step of the same networks, in pairs on a CPU.

`python tests/benchmarks/training_step.py`
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import GRADIENTS, OBJECTIVES, TrainingConfig
from ngvae_tools.training.model import VariationalAutoencoder

SIZES = {64: 4, 32: 8}
"""Side of the images: steps in each half of a pair."""

BATCH = 64
PAIRS = 40


def stepper(config: TrainingConfig, size: int) -> Callable[[], float]:
    """A function that makes some training steps and returns the seconds they took."""
    shape = (size, size, 3)
    model = VariationalAutoencoder(config, shape, InputScale())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    samples = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (BATCH, *shape), dtype=np.uint8))

    def steps() -> float:
        start = time.perf_counter()
        for _ in range(SIZES[size]):
            parts = model(samples, generator)
            optimiser.zero_grad(set_to_none=True)
            model.surrogate(parts).backward()
            optimiser.step()
            with torch.no_grad():
                observed = model.objective.observe(parts.mu, parts.raw, parts.z)
                if observed is not None:
                    model.objective.absorb(observed)
        return time.perf_counter() - start

    return steps


def main() -> None:
    """Print the ratio of each kind of step to a plain VAE's."""
    torch.set_num_threads(1)
    for size, objective, gradient in itertools.product(SIZES, OBJECTIVES, GRADIENTS):
        plain = stepper(TrainingConfig(model="vae"), size)
        step = stepper(TrainingConfig(objective=objective, gradient=gradient), size)
        step(), plain()
        # Each pair in the other order, so that neither always comes first.
        ratios = []
        for pair in range(PAIRS):
            first, second = (step, plain) if pair % 2 else (plain, step)
            seconds = {first: first(), second: second()}
            ratios.append(seconds[step] / seconds[plain])
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{size}x{size} {objective}, {gradient}: {middle:.3f} of a plain VAE step "
            f"(median of {PAIRS} pairs; quartiles {low:.3f} to {high:.3f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
