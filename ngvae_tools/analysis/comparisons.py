"""The comparisons that drift is made of: each dimension of two records and of their latent files, and all together."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis import two_sample
from ngvae_tools.analysis.drift import (
    DISTANCE,
    LEVEL_DIMENSIONS,
    NOISE,
    OUTSIDE,
    P_DISTANCE,
    POWER,
    SCALE,
    SHIFT,
    Comparison,
    DimensionDrift,
    JointDrift,
)
from ngvae_tools.analysis.energy import ROWS, energy_test, inner_products, normal_scores
from ngvae_tools.analysis.ranges import Outside
from ngvae_tools.analysis.two_sample import Estimate, Moments4
from ngvae_tools.record import AnalysisRecord, DimensionStatistics, finite_or_none

Array = npt.NDArray[np.float64]

FEW = 50
"""With fewer images the variance of a dimension that is known by its moments alone is not tested."""


@dataclass(frozen=True, slots=True)
class StoredRows:
    """A bounded sample of a latent file, and how coarse it is.

    Attributes:
        dimensions: Latent dimension of each column.
        step: Width of a level of each column, shape (d,).
        values: Rows of the sample, shape (n, d).
    """

    dimensions: tuple[int, ...]
    step: Array
    values: Array

    def column(self, k: int) -> Array:
        """Values of a dimension, spread evenly over their levels, so that two grids of levels can be compared.

        The spread is the same for the same row numbers and seeded by the dimension, so equal files stay equal.
        """
        place = self.dimensions.index(k)
        noise = np.random.default_rng(k).uniform(-0.5, 0.5, len(self.values))
        return np.asarray(self.values[:, place] + self.step[place] * noise)


def compare_dimensions(
    a: AnalysisRecord, b: AnalysisRecord, rows_a: StoredRows, rows_b: StoredRows, outside: Outside | None
) -> tuple[DimensionDrift, ...]:
    """Every dimension of two records of the same encoder, with p values corrected over all of them.

    Args:
        a: The reference.
        b: The new data.
        rows_a: Sample of A's latent file.
        rows_b: Sample of B's latent file.
        outside: Images of B outside A's range.
    """
    counts = tuple(record.data.n_images - record.data.n_rejected for record in (a, b))
    found = []
    for one, other in zip(a.dimensions, b.dimensions, strict=True):
        comparisons = _of_moments(one, other, (counts[0], counts[1]), rows_a, rows_b)
        if comparable(one.index, rows_a, rows_b):
            comparisons += _of_rows(one, rows_a.column(one.index), rows_b.column(one.index))
        comparisons += _of_p(one, other, (counts[0], counts[1]))
        if outside is not None and one.index in outside.dimensions and outside.n_images:
            number = outside.per_dimension[outside.dimensions.index(one.index)]
            share = two_sample.share_outside(number, counts[0], outside.n_images)
            comparisons.append(_comparison("outside", share, matters=(share.value or 0.0) > OUTSIDE))
        found.append(comparisons)
    tested = [c for comparisons in found for c in comparisons if c.p_value is not None]
    corrected = iter(two_sample.holm([c.p_value for c in tested if c.p_value is not None]))
    return tuple(
        DimensionDrift(
            row.index,
            row.informative,
            row.index in rows_a.dimensions and row.index in rows_b.dimensions,
            tuple(c if c.p_value is None else dataclasses.replace(c, corrected=next(corrected)) for c in comparisons),
        )
        for row, comparisons in zip(a.dimensions, found, strict=True)
    )


def compare_jointly(rows_a: StoredRows, rows_b: StoredRows, seed: int = 0) -> JointDrift | None:
    """The joint test on at most `ROWS` rows of each sample; None without a dimension in both or without rows."""
    shared = tuple(k for k in rows_a.dimensions if comparable(k, rows_a, rows_b))
    if not shared:
        return None
    x, y = (np.stack([rows.column(k) for k in shared], axis=1) for rows in (rows_a, rows_b))
    test = energy_test(_thinned(x), _thinned(y), seed=seed)
    if test is None:
        return None
    pair, correlations = _largest_change(x, y)
    named = None if pair is None else (shared[pair[0]], shared[pair[1]])
    return JointDrift(shared, test, named, correlations)


def comparable(k: int, rows_a: StoredRows, rows_b: StoredRows) -> bool:
    """Whether both samples hold dimension k with at least one row, in steps finer than half its spread in A."""
    if k not in rows_a.dimensions or k not in rows_b.dimensions or not len(rows_a.values) or not len(rows_b.values):
        return False
    spread = float(rows_a.values[:, rows_a.dimensions.index(k)].std())
    steps = (float(rows.step[rows.dimensions.index(k)]) for rows in (rows_a, rows_b))
    return max(steps) <= spread / 2


def smallest_shift(n_a: int, n_b: int, n_tests: int) -> float | None:
    """Shift of a mean in standard deviations found with 80 % power by the strictest of the corrected tests."""
    from scipy.special import ndtri

    if min(n_a, n_b) < 2 or n_tests == 0:
        return None
    reach = float(ndtri(1 - LEVEL_DIMENSIONS / (2 * n_tests)) + ndtri(POWER))
    return max(SHIFT, reach * math.sqrt(1 / n_a + 1 / n_b))


def _of_moments(
    a: DimensionStatistics, b: DimensionStatistics, counts: tuple[int, int], rows_a: StoredRows, rows_b: StoredRows
) -> list[Comparison]:
    if a.mu_variance is None or b.mu_variance is None:
        scale = math.sqrt(a.mu_variance) if a.mu_variance else 0.0
        shift = (b.mu_mean - a.mu_mean) / scale if scale else None
        return [] if shift is None else [_comparison("mean", Estimate(shift), matters=False)]
    one, other = _moments(a, counts[0], rows_a), _moments(b, counts[1], rows_b)
    noise = NOISE * math.sqrt(a.posterior_variance or 0.0)
    mean = two_sample.standardised_shift(one, other)
    moved = abs(b.mu_mean - a.mu_mean)
    result = [_comparison("mean", mean, matters=moved > max(noise, SHIFT * math.sqrt(one.variance)))]
    ratio = two_sample.variance_ratio(one, other)
    if a.index in rows_a.dimensions and a.index in rows_b.dimensions:
        ratio = dataclasses.replace(
            ratio, p_value=two_sample.equal_spread(rows_a.column(a.index), rows_b.column(a.index))
        )
    elif min(counts) < FEW:
        ratio = dataclasses.replace(ratio, p_value=None)
    widened = abs(math.sqrt(other.variance) - math.sqrt(one.variance))
    beyond = widened > noise and not one.variance / SCALE**2 <= other.variance <= one.variance * SCALE**2
    return [*result, _comparison("variance", ratio, matters=beyond)]


def _of_rows(a: DimensionStatistics, x: Array, y: Array) -> list[Comparison]:
    scale = math.sqrt(a.mu_variance) if a.mu_variance else 0.0
    noise = NOISE * math.sqrt(a.posterior_variance or 0.0)
    area = two_sample.wasserstein(x, y)
    distance = two_sample.kolmogorov_smirnov(x, y)
    beyond = (distance.value or 0.0) > DISTANCE and (area.value or 0.0) > noise
    result = [_comparison("distribution", distance, matters=beyond)]
    if scale > 0 and area.value is not None and area.interval is not None:
        scaled = Estimate(area.value / scale, (area.interval[0] / scale, area.interval[1] / scale))
        result.append(_comparison("wasserstein", scaled, matters=False))
    return result


def _of_p(a: DimensionStatistics, b: DimensionStatistics, counts: tuple[int, int]) -> list[Comparison]:
    result = []
    if a.p_mean is not None and b.p_mean is not None:
        shift = b.p_mean - a.p_mean
        error = None
        if a.p_std is not None and b.p_std is not None:
            error = 1.96 * math.sqrt(a.p_std**2 / counts[0] + b.p_std**2 / counts[1])
        interval = None if error is None else (max(shift - error, -1.0), min(shift + error, 1.0))
        result.append(_comparison("p_mean", Estimate(shift, interval), matters=False))
    if a.p_histogram is not None and b.p_histogram is not None:
        one, other = np.array(a.p_histogram, dtype=np.int64), np.array(b.p_histogram, dtype=np.int64)
        distance = two_sample.histogram_distance(one, other)
        # Of an image with many positions each adds to the histogram, but they are not independent.
        one, other = (h * (n / h.sum()) for h, n in zip((one, other), counts, strict=True))
        estimate = Estimate(distance, None, two_sample.kolmogorov_smirnov_of_counts(one, other))
        result.append(_comparison("p", estimate, matters=distance > P_DISTANCE))
    return result


def _moments(row: DimensionStatistics, count: int, rows: StoredRows) -> Moments4:
    """Mean and variance of the record; higher moments of the sample, or what the bootstrap says of the kurtosis."""
    assert row.mu_variance is not None
    if row.index in rows.dimensions and len(rows.values) > 1:
        skewness, kurtosis = two_sample.moments4(rows.column(row.index)[:, None])
        return Moments4(count, row.mu_mean, row.mu_variance, float(skewness[0]), float(kurtosis[0]))
    interval = row.intervals.get("mu_variance")
    known = None if interval is None else two_sample.kurtosis_of_interval(interval, count)
    return Moments4(count, row.mu_mean, row.mu_variance, kurtosis=3.0 if known is None else known)


def _comparison(name: str, estimate: Estimate, *, matters: bool) -> Comparison:
    value = None if estimate.value is None else finite_or_none(estimate.value)
    interval = estimate.interval if estimate.interval is None or all(map(math.isfinite, estimate.interval)) else None
    return Comparison(name, value, interval, estimate.p_value, None, matters)


def _thinned(rows: Array) -> Array:
    """At most `ROWS` rows; the sample is in random order already."""
    return rows[:ROWS]


def _largest_change(x: Array, y: Array) -> tuple[tuple[int, int] | None, tuple[float, float] | None]:
    if x.shape[1] < 2 or min(len(x), len(y)) < 3:
        return None, None
    one, other = (_rank_correlation(rows) for rows in (x, y))
    change = np.triu(np.abs(other - one), 1)
    i, j = (int(v) for v in np.unravel_index(int(change.argmax()), change.shape))
    return (i, j), (float(one[i, j]), float(other[i, j]))


def _rank_correlation(rows: Array) -> Array:
    scores = normal_scores(rows)
    scale = np.sqrt((scores * scores).mean(axis=0))
    return inner_products(scores, scores) / len(scores) / np.outer(scale, scale)
