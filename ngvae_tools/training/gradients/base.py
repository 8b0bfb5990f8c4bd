"""What an estimator draws: latents with their gradients, and the density that a score term needs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class LatentSample:
    """One draw of z for each image.

    Attributes:
        z: Latents, shape (B, K); gradients flow through it.
        noise_log_density: log q(eps) summed over dimensions, shape (B,), for estimators with a score term.
    """

    z: Tensor
    noise_log_density: Tensor | None = None


def standard_gamma(alpha: Tensor, generator: Generator | None) -> Tensor:
    """Draws of Gamma(alpha, 1), above zero; the gradient to alpha is that of the inverse CDF."""
    gamma = torch._standard_gamma(alpha, generator)  # noqa: SLF001 - Gamma.rsample takes no generator
    return gamma.clamp_min(torch.finfo(gamma.dtype).tiny)


def standard_normal(like: Tensor, generator: Generator | None) -> Tensor:
    """Draws of N(0, 1) in the shape, type and device of `like`."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
