"""Sums over the batches of a pass."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ngvae_tools.run import Figures
from ngvae_tools.training.distributed import Ranks
from ngvae_tools.training.model import BatchParts, VariationalAutoencoder


class Accumulator:
    """Sums over the batches of a pass, in float64, kept on the device.

    Attributes:
        count: Images added.
        sums: nll, squared error, penalty; then rate, second head and posterior variance of each dimension:
            shape (3 + 3K,).
    """

    def __init__(self, model: VariationalAutoencoder) -> None:
        self.model = model
        self.count = 0
        self.sums = torch.zeros(3 + 3 * model.latent_dim, dtype=torch.float64, device=model.sigma.device)

    @torch.no_grad()
    def add(self, parts: BatchParts) -> None:
        """Add a batch."""
        scalars = (parts.nll[:, None], parts.squared_error[:, None], torch.zeros_like(parts.nll[:, None]))
        batch = torch.cat((*scalars, parts.rate, parts.second, parts.posterior_variance), dim=1)
        self.sums += batch.sum(dim=0, dtype=torch.float64)
        if parts.penalty is not None:
            self.sums[2] += parts.penalty.double() * len(batch)
        self.count += len(batch)

    def over(self, ranks: Ranks) -> Accumulator:
        """The sums over all processes."""
        total = Accumulator(self.model)
        every = ranks.add_up(torch.cat((self.sums, self.sums.new_tensor([self.count]))))
        total.sums, total.count = every[:-1], int(every[-1])
        return total

    def figures(self) -> Figures:
        """Means over the images added."""
        means = self.sums / self.count
        nll, squared_error, penalty = means[:3].tolist()
        rate = float(means[3 : 3 + self.model.latent_dim].sum())
        return Figures(
            loss=nll + self.model.beta * rate + penalty,
            distortion=nll + self.model.nll_constant,
            rate=rate,
            mse=squared_error / math.prod(self.model.image_shape),
            penalty=penalty,
        )

    def per_dimension(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean rate, second head and posterior variance of each dimension, each of shape (K,)."""
        rate, second, variance = (self.sums[3:] / self.count).chunk(3)
        return rate, second, variance

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"count": self.count, "sums": self.sums.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.count = state["count"]
        self.sums = state["sums"].to(self.sums.device)
