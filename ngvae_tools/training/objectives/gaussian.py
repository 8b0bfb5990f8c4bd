"""The Gaussian posterior with the standard normal prior: the plain VAE, and the beta-VAE by its weight."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ngvae_tools.contract import LOGVAR
from ngvae_tools.training.gradients import LatentSample
from ngvae_tools.training.objectives.base import Objective


class GaussianObjective(Objective):
    """N(mu, exp(logvar)) against N(0, 1): plain VAE, and beta-VAE by its weight.

    Kingma and Welling (2014), "Auto-encoding variational Bayes"; Higgins et al. (2017), "beta-VAE". With v the
    variance exp(logvar), the rate is E[log q(z) - log p(z)] over z of q, where

        log q(z) = -(z - mu)^2 / (2 v) - log(2 pi v) / 2,    of mean -(1 + log(2 pi v)) / 2
        log p(z) = -z^2 / 2 - log(2 pi) / 2,                 of mean -(mu^2 + v + log(2 pi)) / 2.
    """

    family = "gaussian"
    second_head = LOGVAR

    def sample(self, mu: Tensor, raw: Tensor, generator: Generator | None = None) -> LatentSample:
        """Draw z = mu + v^(1/2) eps with eps of N(0, 1): the standard reparameterisation."""
        noise = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
        return LatentSample(mu + torch.exp(0.5 * raw) * noise)

    def rate(self, mu: Tensor, raw: Tensor) -> Tensor:
        """KL(N(mu, v) || N(0, 1)) = (mu^2 + v - log v - 1) / 2."""
        return 0.5 * (mu**2 + raw.exp() - raw - 1)

    def posterior_variance(self, raw: Tensor) -> Tensor:
        """exp(logvar)."""
        return raw.exp()
