"""Statistics of every latent dimension over a stream of posteriors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.moments import Array, Moments
from ngvae_tools.posteriors import Posterior
from ngvae_tools.record import P_BINS


@dataclass(frozen=True, slots=True)
class LatentStatistics:
    """What has been seen of the posteriors; merges like the moments it is made of.

    Attributes:
        mu: Mean and covariance of the posterior means.
        variance: Mean and variance of the posterior variances; None for deterministic codes.
        entropy: Mean and variance of the posterior entropies, nats; None for deterministic codes.
        rate: Mean and variance of the rates, nats; None for deterministic codes.
        p: Mean and variance of p (near 0 = informative); None for a family without it.
        p_histogram: Rows with p in each of `P_BINS` equal bins from 0 to 1, int64, shape (K, P_BINS); None without p.
        low: Smallest posterior mean of each dimension, shape (K,).
        high: Largest posterior mean of each dimension, shape (K,).
    """

    mu: Moments
    variance: Moments | None
    entropy: Moments | None
    rate: Moments | None
    p: Moments | None
    p_histogram: npt.NDArray[np.int64] | None
    low: Array
    high: Array

    @classmethod
    def of(cls, posterior: Posterior, p: npt.NDArray[np.floating] | None) -> LatentStatistics:
        """Statistics of one block: a posterior of n rows and, for a family with it, p of shape (n, K)."""
        return cls(
            mu=Moments.of(posterior.mean),
            variance=_diagonal(posterior.variance),
            entropy=_diagonal(posterior.entropy),
            rate=_diagonal(posterior.rate),
            p=_diagonal(p),
            p_histogram=None if p is None else _histogram(p),
            low=posterior.mean.min(axis=0, initial=np.inf),
            high=posterior.mean.max(axis=0, initial=-np.inf),
        )

    def merge(self, other: LatentStatistics) -> LatentStatistics:
        """Statistics of both sets of rows."""
        histograms = (self.p_histogram, other.p_histogram)
        return LatentStatistics(
            mu=self.mu.merge(other.mu),
            variance=_merged(self.variance, other.variance),
            entropy=_merged(self.entropy, other.entropy),
            rate=_merged(self.rate, other.rate),
            p=_merged(self.p, other.p),
            p_histogram=None if histograms[0] is None or histograms[1] is None else histograms[0] + histograms[1],
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
        )


def _diagonal(rows: npt.NDArray[np.floating] | None) -> Moments | None:
    return None if rows is None else Moments.of(rows, diagonal=True)


def _merged(one: Moments | None, other: Moments | None) -> Moments | None:
    return None if one is None or other is None else one.merge(other)


def _histogram(p: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    dim = p.shape[1]
    place = np.minimum((p * P_BINS).astype(np.int64), P_BINS - 1) + P_BINS * np.arange(dim)
    return np.bincount(place.ravel(), minlength=dim * P_BINS).reshape(dim, P_BINS)
