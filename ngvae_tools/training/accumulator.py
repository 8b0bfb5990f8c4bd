"""Sums over the batches of a pass."""

from __future__ import annotations

import math

from torch import Tensor

from ngvae_tools.run import Figures
from ngvae_tools.training.model import BatchParts, VariationalAutoencoder


class Accumulator:
    """Sums over the batches of a pass, kept on the device."""

    def __init__(self, model: VariationalAutoencoder) -> None:
        self.model = model
        self.count = 0
        self.sums: list[Tensor] = []

    def add(self, parts: BatchParts) -> None:
        """Add a batch."""
        terms = (parts.nll, parts.squared_error, parts.rate, parts.second, parts.posterior_variance)
        sums = [term.detach().double().sum(dim=0) for term in terms]
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)] if self.sums else sums
        self.count += len(parts.nll)

    def figures(self) -> Figures:
        """Means over the images added."""
        nll, squared_error, rate = (total / self.count for total in self.sums[:3])
        return Figures(
            loss=float(nll + self.model.beta * rate.sum()),
            distortion=float(nll) + self.model.nll_constant,
            rate=float(rate.sum()),
            mse=float(squared_error) / math.prod(self.model.image_shape),
        )

    def per_dimension(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """Mean rate, second head and posterior variance of each dimension."""
        rate, second, variance = (tuple((total / self.count).tolist()) for total in self.sums[2:])
        return rate, second, variance
