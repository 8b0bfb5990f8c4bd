"""ARD-VAE: the Gaussian posterior with a prior variance learned for each dimension."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ngvae_tools.training.gradients import LatentSample
from ngvae_tools.training.objectives.gaussian import GaussianObjective


class ARDObjective(GaussianObjective):
    """N(m, s^2) against N(0, v) with a variance v of each dimension that follows the latents.

    Saha, Joshi and Whitaker 2025, "ARD-VAE: a statistical formulation to find the relevant latent dimensions of
    variational autoencoders" (WACV; arXiv 2501.10901), Section 3. The precision of each dimension has a
    Gamma(a0, b0) hyperprior with a0 = b0 = 0. Given n latents its posterior is Gamma(n/2, sum of z^2 / 2), and the
    marginal prior of z a Student-t with n degrees of freedom. With their n of about 10,000 they take it for the
    Gaussian of variance v = b / a = mean of z^2, and so does this. As in theirs, v is updated once an epoch and
    held in between; they encode a set of images apart for it, here it is the mean over the draws of the epoch.

    What is exported is z / sqrt(v), whose prior is N(0, 1): the contract's Gaussian family, and the same bound. The
    decoder's input is multiplied by sqrt(v) again (`decoder_scale`). In the encoder's own units m = sqrt(v) mu.

    Attributes:
        prior_variance: v, shape (K,).
        total: Sum over the epoch's steps of the mean z^2 of a batch, in the encoder's units, shape (K,).
        steps: Steps in that sum.
    """

    prior_variance: Tensor
    total: Tensor
    steps: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("prior_variance", torch.ones(latent_dim))
        self.register_buffer("total", torch.zeros(latent_dim))
        self.register_buffer("steps", torch.tensor(0))

    def mean(self, mu: Tensor, raw: Tensor) -> Tensor:  # noqa: ARG002
        """Posterior mean of z / sqrt(v), m / sqrt(v)."""
        return mu * self.prior_variance.rsqrt()

    def link(self, raw: Tensor) -> Tensor:
        """Log s^2 / v."""
        return raw - self.prior_variance.log()

    def sample(self, mu: Tensor, raw: Tensor, generator: Generator | None = None) -> LatentSample:
        """Draw z / sqrt(v) by the standard reparameterisation."""
        return super().sample(mu, self.link(raw), generator)

    def rate(self, mu: Tensor, raw: Tensor) -> Tensor:
        """KL(N(m, s^2) || N(0, v)), which is that of the rescaled posterior to N(0, 1)."""
        return super().rate(mu, self.link(raw))

    def posterior_variance(self, raw: Tensor) -> Tensor:
        """s^2 / v."""
        return self.link(raw).exp()

    def decoder_scale(self) -> Tensor:
        """sqrt(v), shape (K,)."""
        return self.prior_variance.sqrt()

    def observe(self, mu: Tensor, raw: Tensor, z: Tensor) -> Tensor:  # noqa: ARG002
        """Mean over the batch of z^2, in the encoder's units, shape (K,)."""
        return (z**2).mean(dim=0) * self.prior_variance

    def absorb(self, observed: Tensor) -> None:
        """Take in a step's mean."""
        self.total += observed
        self.steps += 1

    def settle(self, second: Tensor, *, plateau: bool, steps: int, watching: bool = True) -> bool:  # noqa: ARG002
        """Update v = b / a at the end of an epoch; the objective is the same one, so no plateau is sought anew."""
        if self.steps > 0:
            self.prior_variance.copy_(self.total / self.steps)
            self.total.zero_()
            self.steps.zero_()
        return False
