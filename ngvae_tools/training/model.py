"""A variational auto-encoder: the networks, an objective, and what one batch costs."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.distributed import sum_over_processes
from ngvae_tools.training.networks import Encoder, make_decoder
from ngvae_tools.training.objectives import make_objective
from ngvae_tools.training.precision import at_least_float, network_precision

SIGMA_FOLLOWS = 0.05
"""Share of the way that a learned sigma^2 goes to each batch's mean squared error."""

LEAST_SIGMA = 1e-3
"""A learned sigma stays above it: about what rounding to 256 levels alone leaves, 1 / (255 sqrt(12))."""


@dataclass(frozen=True, slots=True)
class BatchParts:
    """What a batch of B images costs.

    Attributes:
        squared_error: Sum over pixels of the squared error on the [0, 1] scale, shape (B,).
        nll: Eq. 8 as `VariationalAutoencoder.nll` gives it, the constant left out, nats, shape (B,).
        rate: Rate of each dimension, nats, shape (B, K).
        second: The exported second head, p or log-variance, shape (B, K).
        posterior_variance: Shape (B, K).
        noise_log_density: Of estimators with a score term, shape (B,).
        penalty: The objective's penalty, nats an image, shape (); None where it has none.
        mu: Posterior means, shape (B, K).
        raw: The encoder's second output before its link, shape (B, K).
        z: The draw that was decoded, shape (B, K).
    """

    squared_error: Tensor
    nll: Tensor
    rate: Tensor
    second: Tensor
    posterior_variance: Tensor
    noise_log_density: Tensor | None
    penalty: Tensor | None
    mu: Tensor
    raw: Tensor
    z: Tensor


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
        self.learn_sigma = config.learn_sigma
        self.sigma: Tensor
        self.register_buffer("sigma", torch.tensor(config.sigma, dtype=torch.float64))
        self.beta = config.rate_weight
        self.control_variate = config.control_variate
        self.precision = config.precision
        # The start depends on the seed alone, and the caller's random state stays as it was.
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which also seeds the CUDA generators that fork_rng leaves alone here.
            torch.default_generator.manual_seed(config.seed)
            self.encoder = Encoder(image_shape, config.latent_dim, scale, coordconv=config.coordconv)
            self.decoder = make_decoder(config, image_shape)
            self.objective = make_objective(config)
        # Samples come with their channels last, and convolutions on a CPU are faster so: 1.2 of the speed measured.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def nll_constant(self) -> float:
        """What `nll` leaves out: D / 2 log(2 pi sigma^2) with a fixed sigma, D / 2 log(2 pi) with a learned one."""
        fixed = 1.0 if self.learn_sigma else float(self.sigma) ** 2
        return 0.5 * math.prod(self.image_shape) * math.log(2 * math.pi * fixed)

    def nll(self, squared_error: Tensor) -> Tensor:
        """Negative log-likelihood of images with these squared errors, `nll_constant` left out, nats, shape (B,).

        Fixed sigma: squared_error / (2 sigma^2). Learned: plus D / 2 log sigma^2, which then is no constant.
        """
        nll = squared_error / (2 * self.sigma**2)
        return nll + math.prod(self.image_shape) * self.sigma.log() if self.learn_sigma else nll

    def follow_sigma(self, squared_error: Tensor) -> None:
        """Let a learned sigma follow the squared errors of a training batch, shape (B,), of every rank.

        For given reconstructions sigma^2 = MSE maximises the likelihood (Rybkin, Daniilidis and Levine 2021,
        "Simple and effective VAE training with calibrated decoders", Eq. 5). Their optimum is each batch's own;
        here it is a running one, so that images of a batch stay independent and held-out figures have the same
        sigma. At sigma^2 = MSE the gradient is the same whether sigma is held or moves along: the nll's
        derivative by sigma is zero there.
        """
        total = squared_error.detach().double().sum()
        seen = sum_over_processes(torch.stack([total, torch.full_like(total, len(squared_error))]))
        variance = self.sigma**2
        variance += SIGMA_FOLLOWS * (seen[0] / seen[1] / math.prod(self.image_shape) - variance)
        self.sigma.copy_(variance.sqrt().clamp(min=LEAST_SIGMA))

    def decode(self, z: Tensor) -> Tensor:
        """Means of the likelihood, images (B, C, H, W), for latents as they are exported, shape (B, K)."""
        scale = self.objective.decoder_scale()
        images: Tensor = self.decoder(z if scale is None else z * scale)
        return images

    def forward(self, samples: Tensor, generator: Generator | None = None) -> BatchParts:
        """Cost of raw samples, shape (B, H, W, C)."""
        images = self.encoder.images(samples)
        with network_precision(self.precision, images.device):
            heads = self.encoder(images)
        # The networks alone compute in bfloat16: laws, rates and errors keep float32.
        mu, raw = (at_least_float(head) for head in heads)
        mu = self.objective.mean(mu, raw)
        drawn = self.objective.sample(mu, raw, generator)
        with network_precision(self.precision, images.device):
            decoded = self.decode(drawn.z)
        squared_error = (images - at_least_float(decoded)).square().sum(dim=(1, 2, 3))
        if self.learn_sigma and self.training:
            self.follow_sigma(squared_error)
        return BatchParts(
            squared_error=squared_error,
            nll=self.nll(squared_error),
            rate=self.objective.rate(mu, raw),
            second=self.objective.link(raw),
            posterior_variance=self.objective.posterior_variance(raw),
            noise_log_density=drawn.noise_log_density,
            penalty=self.objective.penalty(mu, raw, drawn.z),
            mu=mu,
            raw=raw,
            z=drawn.z,
        )

    def loss(self, parts: BatchParts) -> Tensor:
        """Mean over images of nll + beta * rate (Eq. 6, the constant left out), and the objective's penalty."""
        loss = (parts.nll + self.beta * parts.rate.sum(dim=1)).mean()
        return loss if parts.penalty is None else loss + parts.penalty

    def surrogate(self, parts: BatchParts) -> Tensor:
        """What is differentiated: the loss, and for estimators with a score term its product with the nll (Eq. 15).

        The control variate is the mean nll of the other images, subtracted first: it is independent of an image's
        own score, whose mean is nought, so the expectation stays, and the score term's variance, which would
        swamp the gradient at nlls of thousands of nats, falls.
        """
        if parts.noise_log_density is None:
            return self.loss(parts)
        nll = parts.nll.detach()
        if self.control_variate:
            nll = nll - (nll.sum() - nll) / max(len(nll) - 1, 1)
        return self.loss(parts) + (nll * parts.noise_log_density).mean()


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers and of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0")
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
