"""Statistics of every latent dimension over a stream of posteriors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.moments import Array, Moments
from ngvae_tools.posteriors import Posterior


@dataclass(frozen=True, slots=True)
class LatentStatistics:
    """What has been seen of the posteriors; merges like the moments it is made of.

    Attributes:
        mu: Mean and covariance of the posterior means.
        variance: Mean and variance of the posterior variances.
        entropy: Mean and variance of the posterior entropies, nats.
        p: Mean and variance of p (near 0 = informative); None for a family without it.
        low: Smallest posterior mean of each dimension, shape (K,).
        high: Largest posterior mean of each dimension, shape (K,).
    """

    mu: Moments
    variance: Moments
    entropy: Moments
    p: Moments | None
    low: Array
    high: Array

    @classmethod
    def empty(cls, dim: int, *, with_p: bool) -> LatentStatistics:
        """Statistics of no image."""
        nothing = Moments.empty(dim, diagonal=True)
        bounds = np.full(dim, np.inf), np.full(dim, -np.inf)
        return cls(Moments.empty(dim), nothing, nothing, nothing if with_p else None, *bounds)

    @classmethod
    def of(cls, posterior: Posterior, p: npt.NDArray[np.floating] | None) -> LatentStatistics:
        """Statistics of one block: a posterior of n images and, for a family with it, p of shape (n, K)."""
        return cls(
            mu=Moments.of(posterior.mean),
            variance=Moments.of(posterior.variance, diagonal=True),
            entropy=Moments.of(posterior.entropy, diagonal=True),
            p=None if p is None else Moments.of(p, diagonal=True),
            low=posterior.mean.min(axis=0, initial=np.inf),
            high=posterior.mean.max(axis=0, initial=-np.inf),
        )

    def merge(self, other: LatentStatistics) -> LatentStatistics:
        """Statistics of both sets of images."""
        return LatentStatistics(
            mu=self.mu.merge(other.mu),
            variance=self.variance.merge(other.variance),
            entropy=self.entropy.merge(other.entropy),
            p=self.p.merge(other.p) if self.p is not None and other.p is not None else None,
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
        )
