"""Whether several models of the same data agree: their counts, matched dimensions, and UDR as an unsupervised score.

UDR is that of Duan et al. 2020, "Unsupervised Model Selection for Variational Disentangled Representation Learning",
the Spearman variant. For models i and j with d_i and d_j informative dimensions, R is the matrix of absolute Spearman
correlations, (d_i, d_j), over the same images, and

    UDR_ij = (sum over columns b of r_b**2 / sum_a R_ab  +  sum over rows a of r_a**2 / sum_b R_ab) / (d_i + d_j)

with r the largest entry of that column or row. A model's score is the median of UDR_ij over the other models j.
Informative are the dimensions that each model's own selection kept, those in its latent file; the paper keeps those
with a KL above 0.01 nat, a rule that calls every NGVAE dimension informative. Uninformative dimensions enter neither
the sums nor the maxima, as in disentanglement_lib, whose score is the mean of the means over rows and over columns:
the same where d_i = d_j. The score is 1 where each dimension of either model is a monotone function of one dimension
of the other and independent of the rest.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.energy import inner_products

Array = npt.NDArray[np.float64]

FOUND = 0.7
"""Absolute correlation from which a dimension counts as found again: it shares half of its variance."""

LEAST = 3
"""Images in common below which two models are not compared."""


@dataclass(frozen=True, slots=True)
class ModelSample:
    """The informative dimensions of one model over a sample of images.

    Attributes:
        name: What the model is called.
        dimensions: Latent dimension of each column.
        images: A number for each image, ascending and unique, shape (n,).
        values: Posterior means, shape (n, d).
    """

    name: str
    dimensions: tuple[int, ...]
    images: npt.NDArray[np.int64]
    values: Array


@dataclass(frozen=True, slots=True)
class Match:
    """A dimension of one model and its partner in another: `correlation` is Pearson's over the images."""

    a: int
    b: int
    correlation: float


@dataclass(frozen=True, slots=True)
class PairStability:
    """Two models on the same images.

    Attributes:
        a: Name of the first model.
        b: Name of the second.
        n_images: Images both were compared on.
        matches: Pairs of dimensions with the largest sum of absolute correlations (Hungarian assignment), by the
            first model's dimension.
        alone_a: Dimensions of the first without a partner: none left, or correlated below `FOUND`.
        alone_b: The same of the second.
        udr: UDR_ij; None where a model has no dimension that varies.
        udr_chance: The same with the images of the second model shuffled: what no agreement gives.
    """

    a: str
    b: str
    n_images: int
    matches: tuple[Match, ...]
    alone_a: tuple[int, ...]
    alone_b: tuple[int, ...]
    udr: float | None
    udr_chance: float | None


@dataclass(frozen=True, slots=True)
class ModelStability:
    """One model among the others.

    Attributes:
        name: What the model is called.
        count: Its informative dimensions.
        dimensions: Which they are.
        others: Other models it could be compared with.
        found: In how many of them each of `dimensions` has a partner.
        udr: Median of UDR_ij over the others; None without any.
    """

    name: str
    count: int
    dimensions: tuple[int, ...]
    others: int
    found: tuple[int, ...]
    udr: float | None


@dataclass(frozen=True, slots=True)
class Stability:
    """Several models side by side.

    Attributes:
        models: In the order they were given.
        pairs: Every two that saw the same data.
        count_mean: Mean number of informative dimensions.
        count_sd: Its standard deviation over models (ddof 1).
        count_range: Smallest and largest.
        notes: What a reader must know: models that could not be compared, and why.
    """

    models: tuple[ModelStability, ...]
    pairs: tuple[PairStability, ...]
    count_mean: float
    count_sd: float
    count_range: tuple[int, int]
    notes: tuple[str, ...] = ()


def stability_of(
    counts: Sequence[tuple[str, tuple[int, ...]]], pairs: Sequence[PairStability], notes: Sequence[str]
) -> Stability:
    """Put pairs together.

    Args:
        counts: Name and informative dimensions of each model, at least two.
        pairs: Every two models that could be compared.
        notes: Why others could not.
    """
    numbers = [len(dimensions) for _, dimensions in counts]
    return Stability(
        models=tuple(_model(name, dimensions, pairs) for name, dimensions in counts),
        pairs=tuple(pairs),
        count_mean=statistics.fmean(numbers),
        count_sd=statistics.stdev(numbers),
        count_range=(min(numbers), max(numbers)),
        notes=tuple(notes),
    )


def compare_pair(a: ModelSample, b: ModelSample, seed: int = 0) -> PairStability | None:
    """Match two models over the images that both samples hold; None where those are fewer than `LEAST`."""
    images, in_a, in_b = np.intersect1d(a.images, b.images, assume_unique=True, return_indices=True)
    if len(images) < LEAST:
        return None
    x, y = a.values[in_a], b.values[in_b]
    matches = match_dimensions(correlations(x, y))
    named = tuple(Match(a.dimensions[i], b.dimensions[j], r) for i, j, r in matches)
    partners = [match for match in named if abs(match.correlation) >= FOUND]
    shuffled = y[np.random.default_rng(seed).permutation(len(y))]
    return PairStability(
        a=a.name,
        b=b.name,
        n_images=len(images),
        matches=named,
        alone_a=tuple(k for k in a.dimensions if k not in {match.a for match in partners}),
        alone_b=tuple(k for k in b.dimensions if k not in {match.b for match in partners}),
        udr=udr(spearman(x, y)),
        udr_chance=udr(spearman(x, shuffled)),
    )


def match_dimensions(correlation: Array) -> list[tuple[int, int, float]]:
    """Rows and columns paired so that the absolute correlations sum to the most, and each pair's correlation.

    Args:
        correlation: Correlations (d_a, d_b); min(d_a, d_b) pairs come out, by row.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.abs(correlation), maximize=True)
    return [(int(i), int(j), float(correlation[i, j])) for i, j in zip(rows, columns, strict=True)]


def correlations(x: Array, y: Array) -> Array:
    """Pearson correlations of the columns of (n, d_a) with those of (n, d_b); 0 with a constant column."""
    one, other = (_standardised(values) for values in (x, y))
    return np.clip(inner_products(one, other), -1.0, 1.0)


def spearman(x: Array, y: Array) -> Array:
    """Absolute Spearman correlations, shape (d_a, d_b); equal values share a rank, 0 with a constant column."""
    from scipy.stats import rankdata

    return np.abs(correlations(rankdata(x, axis=0), rankdata(y, axis=0)))


def udr(strength: Array) -> float | None:
    """UDR of a matrix of absolute correlations of informative dimensions (see the module); None where it is empty.

    A dimension that correlates with nothing scores 0.
    """
    if strength.size == 0:
        return None
    total = 0.0
    for axis in (0, 1):
        largest, sums = strength.max(axis=axis), strength.sum(axis=axis)
        total += float((largest * largest / np.where(sums > 0, sums, 1.0)).sum())
    return total / sum(strength.shape)


def _model(name: str, dimensions: tuple[int, ...], pairs: Sequence[PairStability]) -> ModelStability:
    own = [pair for pair in pairs if name in {pair.a, pair.b}]
    alone = [pair.alone_a if pair.a == name else pair.alone_b for pair in own]
    scores = [pair.udr for pair in own if pair.udr is not None]
    return ModelStability(
        name=name,
        count=len(dimensions),
        dimensions=dimensions,
        others=len(own),
        found=tuple(sum(k not in without for without in alone) for k in dimensions),
        udr=statistics.median(scores) if scores else None,
    )


def _standardised(values: Array) -> Array:
    """Columns of mean 0 and length 1; zero for constant ones."""
    centred = values - values.mean(axis=0)
    length = np.sqrt((centred * centred).sum(axis=0))
    # What rounding leaves of a constant column is no variation.
    varies = length > 1e-12 * np.sqrt(len(values)) * np.abs(values).max(axis=0, initial=0.0)
    return np.where(varies, centred, 0.0) / np.where(varies, length, 1.0)
