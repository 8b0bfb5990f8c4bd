"""Everything that is learned of the latents while a data set streams past, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.blas import one_blas_thread
from ngvae_tools.analysis.bootstrap import Replicates, Weights, count_interval, finite
from ngvae_tools.analysis.information import Information, information
from ngvae_tools.analysis.moments import BLOCK, Array, Moments
from ngvae_tools.analysis.sample import Rows, Sample, Sampler, sample_size
from ngvae_tools.analysis.selection import RULES, Scores, default_threshold, select, verdicts
from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.analysis.tree import MergeTree, Node
from ngvae_tools.contract import P
from ngvae_tools.posteriors import Posterior, PosteriorFamily
from ngvae_tools.record import REPLICATES, Selection

ROWS = 65536
"""Rows that are worked on at once: a block of images with many positions each is taken in parts."""

COLUMNS = ("mu", "variance", "entropy", "rate", "p")
"""Numbers of every row that the bootstrap follows, K columns each; those that the family has."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What the rows of some blocks sum up to.

    Attributes:
        statistics: Moments, histograms and ranges of every dimension.
        replicates: The same for the bootstrap; None without it.
    """

    statistics: LatentStatistics
    replicates: Replicates | None

    def merge(self, other: Sums) -> Sums:
        """Sums of both."""
        both = (self.replicates, other.replicates)
        replicates = None if both[0] is None or both[1] is None else both[0].merge(both[1])
        return Sums(self.statistics.merge(other.statistics), replicates)


@dataclass(frozen=True, slots=True)
class SurveyPart:
    """What a survey of some blocks has collected, to be joined with that of others.

    Attributes:
        n_images: Images seen.
        nodes: Sums of the blocks, merged as far as they belong together.
        sample: Rows that may be in the sample of all blocks; None without rows.
    """

    n_images: int
    nodes: tuple[Node[Sums], ...]
    sample: Sample | None


class Survey:
    """Collects statistics, a sample and bootstrap replicates, block by block, in any order of blocks.

    Args:
        family: What the heads mean.
        latent_dim: Number K of latent dimensions.
        positions: Number P of rows that one image gives.
        replicates: Bootstrap replicates; 0 for none.
        seed: Seed of the sample and of the bootstrap's weights.
        n_images: Images of all parts together, where that is known: a part then keeps less. Give all parts the same.
    """

    def __init__(
        self,
        family: PosteriorFamily,
        latent_dim: int,
        *,
        positions: int = 1,
        replicates: int = REPLICATES,
        seed: int = 0,
        n_images: int | None = None,
    ) -> None:
        self.family = family
        self.positions = positions
        self.n_images = 0
        rows = None if n_images is None else n_images * positions
        self._sampler = Sampler(sample_size(latent_dim), seed, rows)
        self._weights = Weights(replicates, seed) if replicates else None
        self._tree: MergeTree[Sums] = MergeTree()

    def add(self, index: npt.NDArray[np.int64], mu: Rows, second: Rows | None) -> None:
        """Add whole blocks of images: ascending indices (n,), and heads (n P, K), each image's rows together."""
        with one_blas_thread():
            ends = [0, *(np.flatnonzero(np.diff(index // BLOCK)) + 1).tolist(), len(index)]
            for first, last in pairwise(ends):
                rows = slice(first * self.positions, last * self.positions)
                self._add(index[first:last], mu[rows], None if second is None else second[rows])

    def add_empty(self, block: int) -> None:
        """Say that no image of a block could be used, so that its neighbours need not be kept apart."""
        self._tree.add(Node(0, block, None))

    def join(self, part: SurveyPart) -> None:
        """Add what a survey of other blocks has collected."""
        for node in part.nodes:
            self._tree.add(node)
        if part.sample is not None:
            self._sampler.join(part.sample)
        self.n_images += part.n_images

    def part(self) -> SurveyPart:
        """What was collected so far, for `join`."""
        return SurveyPart(self.n_images, self._tree.nodes(), self._sampler.kept())

    def _add(self, index: npt.NDArray[np.int64], mu: Rows, second: Rows | None) -> None:
        """Add one block."""
        if len(index) == 0:
            return
        # Where images have many positions, a block is worked on in parts, for the sake of memory.
        count = max(1, ROWS // self.positions)
        sums: Sums | None = None
        for start in range(0, len(index), count):
            rows = slice(start * self.positions, (start + count) * self.positions)
            part = self._sums(index[start : start + count], mu[rows], None if second is None else second[rows])
            sums = part if sums is None else sums.merge(part)
        self._tree.add(Node(0, int(index[0]) // BLOCK, sums))
        self._sampler.add((index[:, None] * self.positions + np.arange(self.positions)).ravel(), mu, second)
        self.n_images += len(index)

    def _sums(self, index: npt.NDArray[np.int64], mu: Rows, second: Rows | None) -> Sums:
        wide = None if second is None else second.astype(np.float64)
        posterior = self.family.posterior(mu.astype(np.float64), wide)
        p = wide if self.family.second_head == P else None
        replicates = None
        if self._weights is not None:
            replicates = Replicates.of(self._weights.of(index), np.concatenate(_columns(posterior, p), axis=1))
        return Sums(LatentStatistics.of(posterior, p), replicates)

    def findings(self) -> Findings:
        """What the images added so far say.

        Raises:
            ValueError: No image was added.
        """
        total = self._tree.total()
        if total is None:
            raise ValueError("no image was added to the survey")
        sample = self._sampler.sample()
        # One image has no variance to take replicates of.
        weights, replicates = (self._weights, total.replicates) if self.n_images > 1 else (None, None)
        found = information(sample, self.family, self.positions)
        gains = None
        if weights is not None and found is not None:
            with one_blas_thread():
                gains = _weighted_means(weights, sample.row // self.positions, found.gain)
        return Findings(
            family=self.family,
            n_images=self.n_images,
            positions=self.positions,
            statistics=total.statistics,
            sample=sample,
            information=found,
            replicates=None if replicates is None else _by_name(total.statistics, replicates),
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
