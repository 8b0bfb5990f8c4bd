"""A variational auto-encoder: the networks, an objective, and what one batch costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.networks import Decoder, Encoder
from ngvae_tools.training.objectives import make_objective


@dataclass(frozen=True, slots=True)
class BatchParts:
    """What a batch of B images costs.

    Attributes:
        squared_error: Sum over pixels of the squared error on the [0, 1] scale, shape (B,).
        nll: Eq. 8, squared_error / (2 sigma^2), the constant left out, nats, shape (B,).
        rate: Rate of each dimension, nats, shape (B, K).
        second: The exported second head, p or log-variance, shape (B, K).
        posterior_variance: Shape (B, K).
        noise_log_density: Of estimators with a score term, shape (B,).
    """

    squared_error: Tensor
    nll: Tensor
    rate: Tensor
    second: Tensor
    posterior_variance: Tensor
    noise_log_density: Tensor | None


class VariationalAutoencoder(nn.Module):
    """Encoder, decoder and objective of one configuration.

    Args:
        config: How to train.
        image_shape: (H, W, C) of one sample.
        scale: How samples are brought to [0, 1].
    """

    def __init__(self, config: TrainingConfig, image_shape: tuple[int, int, int], scale: InputScale) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.scale = scale
        self.latent_dim = config.latent_dim
        self.sigma = config.sigma
        self.beta = config.resolved_beta
        # The start depends on the seed alone, and the caller's random state stays as it was.
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which also seeds the CUDA generators that fork_rng leaves alone here.
            torch.default_generator.manual_seed(config.seed)
            self.encoder = Encoder(image_shape, config.latent_dim, scale)
            self.decoder = Decoder(image_shape, config.latent_dim)
            self.objective = make_objective(config)

    @property
    def nll_constant(self) -> float:
        """What Eq. 8 leaves out of the negative log-likelihood: D / 2 log(2 pi sigma^2), nats."""
        return 0.5 * math.prod(self.image_shape) * math.log(2 * math.pi * self.sigma**2)

    def forward(self, samples: Tensor, generator: Generator | None = None) -> BatchParts:
        """Cost of raw samples, shape (B, H, W, C)."""
        images = self.encoder.images(samples)
        mu, raw = self.encoder(images)
        drawn = self.objective.sample(mu, raw, generator)
        squared_error = ((images - self.decoder(drawn.z)) ** 2).flatten(1).sum(dim=1)
        return BatchParts(
            squared_error=squared_error,
            nll=squared_error / (2 * self.sigma**2),
            rate=self.objective.rate(mu, raw),
            second=self.objective.link(raw),
            posterior_variance=self.objective.posterior_variance(raw),
            noise_log_density=drawn.noise_log_density,
        )

    def loss(self, parts: BatchParts) -> Tensor:
        """Mean over images of nll + beta * rate (Eq. 6, the constant left out)."""
        return (parts.nll + self.beta * parts.rate.sum(dim=1)).mean()

    def surrogate(self, parts: BatchParts) -> Tensor:
        """What is differentiated: the loss, and for estimators with a score term its product with the nll.

        The mean nll of the other images is subtracted first: a control variate that leaves the expectation,
        and without which the score term's variance swamps the gradient.
        """
        if parts.noise_log_density is None:
            return self.loss(parts)
        nll = parts.nll.detach()
        others = (nll.sum() - nll) / max(len(nll) - 1, 1)
        return self.loss(parts) + ((nll - others) * parts.noise_log_density).mean()
