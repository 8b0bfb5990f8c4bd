"""Everything that is learned of the latents while a data set streams past, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from ngvae_tools.analysis.bootstrap import Replicates, Weights, count_interval, finite
from ngvae_tools.analysis.information import Information, information
from ngvae_tools.analysis.moments import BLOCK, Array, Moments
from ngvae_tools.analysis.sample import Rows, Sample, Sampler, sample_size
from ngvae_tools.analysis.selection import RULES, Scores, default_threshold, select, verdicts
from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.contract import P
from ngvae_tools.posteriors import Posterior, PosteriorFamily
from ngvae_tools.record import REPLICATES, Selection

ROWS = 65536
"""Rows that are worked on at once: a block of images with many positions each is taken in parts."""

COLUMNS = ("mu", "variance", "entropy", "rate", "p")
"""Numbers of every row that the bootstrap follows, K columns each; those that the family has."""


class Survey:
    """Collects statistics, a sample and bootstrap replicates, block by block.

    Args:
        family: What the heads mean.
        latent_dim: Number K of latent dimensions.
        positions: Number P of rows that one image gives.
        replicates: Bootstrap replicates; 0 for none.
        seed: Seed of the sample and of the bootstrap's weights.
    """

    def __init__(
        self,
        family: PosteriorFamily,
        latent_dim: int,
        *,
        positions: int = 1,
        replicates: int = REPLICATES,
        seed: int = 0,
    ) -> None:
        self.family = family
        self.positions = positions
        self.n_images = 0
        self._blas = ThreadpoolController()
        self._sampler = Sampler(sample_size(latent_dim), seed)
        self._weights = Weights(replicates, seed) if replicates else None
        self._statistics: LatentStatistics | None = None
        self._replicates: Replicates | None = None

    def add(self, index: npt.NDArray[np.int64], mu: Rows, second: Rows | None) -> None:
        """Add whole blocks of images: ascending indices (n,), and heads (n P, K), each image's rows together."""
        # Products of this size gain nothing from more threads, and wait long for them where cores are busy.
        with self._blas.limit(limits=1, user_api="blas"):
            for images in self._parts(index):
                rows = slice(images.start * self.positions, images.stop * self.positions)
                self._add(index[images], mu[rows], None if second is None else second[rows])

    def _parts(self, index: npt.NDArray[np.int64]) -> Iterator[slice]:
        """Parts to sum alone: the blocks, cut where they have many positions; the same for any batches of blocks."""
        count = max(1, ROWS // self.positions)
        ends = [0, *(np.flatnonzero(np.diff(index // BLOCK)) + 1).tolist(), len(index)]
        for first, last in pairwise(ends):
            yield from (slice(start, min(start + count, last)) for start in range(first, last, count))

    def _add(self, index: npt.NDArray[np.int64], mu: Rows, second: Rows | None) -> None:
        wide = None if second is None else second.astype(np.float64)
        posterior = self.family.posterior(mu.astype(np.float64), wide)
        p = wide if self.family.second_head == P else None
        statistics = LatentStatistics.of(posterior, p)
        self._statistics = statistics if self._statistics is None else self._statistics.merge(statistics)
        self._sampler.add((index[:, None] * self.positions + np.arange(self.positions)).ravel(), mu, second)
        if self._weights is not None:
            replicates = Replicates.of(self._weights.of(index), np.concatenate(_columns(posterior, p), axis=1))
            self._replicates = replicates if self._replicates is None else self._replicates.merge(replicates)
        self.n_images += len(index)

    def findings(self) -> Findings:
        """What the images added so far say.

        Raises:
            ValueError: No image was added.
        """
        if self._statistics is None:
            raise ValueError("no image was added to the survey")
        sample = self._sampler.sample()
        # One image has no variance to take replicates of.
        weights, replicates = (self._weights, self._replicates) if self.n_images > 1 else (None, None)
        found = information(sample, self.family, self.positions)
        gains = None
        if weights is not None and found is not None:
            with self._blas.limit(limits=1, user_api="blas"):
                gains = _weighted_means(weights, sample.row // self.positions, found.gain)
        return Findings(
            family=self.family,
            n_images=self.n_images,
            positions=self.positions,
            statistics=self._statistics,
            sample=sample,
            information=found,
            replicates=None if replicates is None else _by_name(self._statistics, replicates),
            information_replicates=gains,
        )


@dataclass(frozen=True)
class Findings:
    """What a survey says at its end; K latent dimensions, R bootstrap replicates.

    Attributes:
        family: What the heads mean.
        n_images: Images seen.
        positions: Rows that one image gave.
        statistics: Moments over all rows.
        sample: A sample of rows.
        information: Information of each dimension; None for deterministic codes or fewer than two rows.
        replicates: For each name of `COLUMNS` the replicates of its mean and of its variance, (R, K) each; None without
            bootstrap or with one image.
        information_replicates: Replicates of the information, (R, K); None likewise.
    """

    family: PosteriorFamily
    n_images: int
    positions: int
    statistics: LatentStatistics
    sample: Sample
    information: Information | None
    replicates: dict[str, tuple[Array, Array]] | None
    information_replicates: Array | None

    @cached_property
    def scores(self) -> Scores:
        """What the rules judge by, over all images."""
        seen = self.statistics
        several = self.n_images > 1
        spread = seen.variance.covariance() if several and seen.variance is not None else None
        return Scores(
            mu_variance=np.diag(seen.mu.covariance()) if several else None,
            variance=_mean(seen.variance),
            variance_std=None if spread is None else np.sqrt(spread),
            p=_mean(seen.p),
            rate=_mean(seen.rate),
            information=None if self.information is None else self.information.nats,
        )

    @cached_property
    def replicate_scores(self) -> Scores | None:
        """The same for every replicate, (R, K) each."""
        if self.replicates is None:
            return None
        means = {name: mean for name, (mean, _) in self.replicates.items()}
        variances = {name: variance for name, (_, variance) in self.replicates.items()}
        return Scores(
            mu_variance=variances["mu"],
            variance=means.get("variance"),
            variance_std=np.sqrt(variances["variance"]) if "variance" in variances else None,
            p=means.get("p"),
            rate=means.get("rate"),
            information=None if self.information_replicates is None else np.maximum(self.information_replicates, 0.0),
        )

    def selection(self, rule: str, threshold: float | None = None) -> Selection | None:
        """The verdict of a rule, with the bootstrap interval of its count; None where the rule does not apply."""
        threshold = default_threshold(self.family, rule) if threshold is None else threshold
        return select(self.scores, self.family, rule, threshold, self._count_interval(rule, threshold))

    def _count_interval(self, rule: str, threshold: float) -> tuple[int, int] | None:
        score = None if self.replicate_scores is None else RULES[rule].score(self.replicate_scores, self.family)
        whole = None if score is None else finite(score)
        if whole is None:
            return None
        return count_interval(verdicts(whole, rule, threshold).sum(axis=-1))


def _columns(posterior: Posterior, p: Array | None) -> list[Array]:
    columns = (posterior.mean, posterior.variance, posterior.entropy, posterior.rate, p)
    return [column for column in columns if column is not None]


def _by_name(statistics: LatentStatistics, replicates: Replicates) -> dict[str, tuple[Array, Array]]:
    names = [name for name in COLUMNS if getattr(statistics, name) is not None]
    mean = np.where(replicates.weight[:, None] > 0, replicates.mean, np.nan)
    means, variances = (np.split(values, len(names), axis=1) for values in (mean, replicates.variance))
    return {name: pair for name, *pair in zip(names, means, variances, strict=True)}  # type: ignore[misc]


def _weighted_means(weights: Weights, image: npt.NDArray[np.int64], values: Array) -> Array:
    """Weighted means over the rows (M, K) of ascending images (M,), one for each replicate, (R, K)."""
    total, sums = np.zeros(weights.replicates), np.zeros((weights.replicates, values.shape[1]))
    for some in _slices(len(image)):
        drawn = weights.of(image[some])
        total += drawn.sum(axis=0)
        sums += drawn.T @ values[some]
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / total[:, None])


def _slices(length: int, size: int = 8192) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


def _mean(moments: Moments | None) -> Array | None:
    return None if moments is None else moments.mean
