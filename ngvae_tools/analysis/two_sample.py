"""Whether two samples differ, and by how much: pure functions of samples, moments and counts.

Every interval holds for any law of the data, not for the normal law alone, unless a function says otherwise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ngvae_tools.record import Interval

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
EXACT_ROWS = 1000
"""Up to this size the Kolmogorov-Smirnov p value is exact, above it asymptotic."""

_QUANTILES = 2000


@dataclass(frozen=True, slots=True)
class Moments4:
    """Moments of one dimension of one data set.

    Attributes:
        count: Number of independent rows.
        mean: Mean.
        variance: Variance (ddof 1).
        skewness: Third standardised moment; that of the normal law where it is not known.
        kurtosis: Fourth standardised moment; that of the normal law where it is not known.
    """

    count: int
    mean: float
    variance: float
    skewness: float = 0.0
    kurtosis: float = 3.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval and the p value of there being no difference; None where not defined."""

    value: float | None = None
    interval: Interval | None = None
    p_value: float | None = None


def standardised_shift(a: Moments4, b: Moments4) -> Estimate:
    """(mean of B - mean of A) / sd of A: interval by the delta method, p value by Welch's t test.

    The interval allows for the error of sd of A too, by its fourth and third moments (Glass's delta).
    """
    from scipy import stats

    parts = (a.variance / a.count, b.variance / b.count)
    error, shift = math.sqrt(sum(parts)), b.mean - a.mean
    if error == 0:
        # Both are constant: under no difference the values would have to be apart by chance alone.
        return Estimate(None, None, 1.0 if shift == 0 else 2 / math.comb(a.count + b.count, a.count))
    freedom = sum(parts) ** 2 / sum(
        part * part / (count - 1) for part, count in zip(parts, (a.count, b.count), strict=True)
    )
    p_value = float(2 * stats.t.sf(abs(shift) / error, freedom))
    if a.variance == 0:
        return Estimate(None, None, p_value)
    delta = shift / math.sqrt(a.variance)
    own = delta * a.skewness / a.count + delta * delta * (a.kurtosis - 1) / (4 * a.count)
    reach = float(stats.t.isf((1 - CONFIDENCE) / 2, freedom)) * math.sqrt(max(error * error / a.variance + own, 0.0))
    return Estimate(delta, (delta - reach, delta + reach), p_value)


def variance_ratio(a: Moments4, b: Moments4) -> Estimate:
    """Variance of B over variance of A, by the delta method on its logarithm (Bonett 2006, without his pooling).

    Where one of them is constant the p value is the chance that all rows that differ from the constant come to lie
    in the other.
    """
    from scipy import stats

    if min(a.variance, b.variance) <= 0:
        if a.variance == b.variance:
            return Estimate(None, None, 1.0)
        return Estimate(0.0, None, _stuck(a, b)) if b.variance <= 0 else Estimate(None, None, _stuck(b, a))
    error = math.sqrt(log_variance_error(a) ** 2 + log_variance_error(b) ** 2)
    value = math.log(b.variance / a.variance)
    freedom = min(a.count, b.count) - 1
    reach = float(stats.t.isf((1 - CONFIDENCE) / 2, freedom)) * error
    interval = (_exp(value - reach), _exp(value + reach))
    return Estimate(_exp(value), interval, float(2 * stats.t.sf(abs(value) / error, freedom)))


def _stuck(varied: Moments4, constant: Moments4) -> float:
    """P value of a constant against a data set that varies, both drawn from one law.

    By Cauchy and Schwarz at least n E[d^2]^2 / E[d^4] of the n rows that vary differ from the constant, d being their
    distance to it.
    """
    from scipy.special import gammaln

    shift, deviation = varied.mean - constant.mean, math.sqrt(varied.variance)
    square = shift**2 + varied.variance
    fourth = (
        shift**4
        + 6 * shift**2 * varied.variance
        + 4 * shift * varied.skewness * deviation**3
        + varied.kurtosis * deviation**4
    )
    total = varied.count + constant.count
    left = total - math.ceil(varied.count * square**2 / max(fourth, square**2))

    def log_ways(of: int) -> float:
        return float(gammaln(of + 1) - gammaln(of - constant.count + 1))

    return min(1.0, math.exp(log_ways(left) - log_ways(total)))


def equal_spread(x: Array, y: Array) -> float | None:
    """P value of equal spread about the medians (Brown and Forsythe 1974); None where no distance to them varies.

    Two rows are equally far from their median whatever they are, so three are needed. Unlike the interval of
    `variance_ratio` it keeps its level for few rows of a skewed or heavy-tailed law.
    """
    from scipy import stats

    distances = [np.abs(values - np.median(values)) for values in (x, y)]
    if min(len(x), len(y)) < 3 or not max(map(np.ptp, distances)) > 0:
        return None
    return float(stats.levene(x, y, center="median").pvalue)


def log_variance_error(moments: Moments4) -> float:
    """Standard error of the logarithm of a variance: sqrt((kurtosis - (n - 3) / n) / (n - 1))."""
    count = moments.count
    # The fourth moment of a discrete law can be as small as 1, where the leading term vanishes.
    return math.sqrt(max(moments.kurtosis - (count - 3) / count, 2 / count) / (count - 1))


def kurtosis_of_interval(interval: Interval, count: int) -> float | None:
    """The kurtosis for which `log_variance_error` fits a bootstrap interval of the variance; None where none does."""
    if count < 2 or not 0 < interval[0] < interval[1]:
        return None
    error = math.log(interval[1] / interval[0]) / (2 * 1.959964)
    return error * error * (count - 1) + (count - 3) / count


def kolmogorov_smirnov(x: Array, y: Array) -> Estimate:
    """Largest difference of the two distribution functions.

    The interval is the value plus and minus each sample's own bound to its law at half the error
    (Dvoretzky-Kiefer-Wolfowitz with Massart's constant): at least 95 %, for any size. The p value is exact up to
    `EXACT_ROWS` rows, asymptotic above, and too large rather than too small where values are equal.
    """
    from scipy import stats

    method: Literal["exact", "asymp"] = "exact" if max(len(x), len(y)) <= EXACT_ROWS else "asymp"
    with warnings.catch_warnings():
        # Where rounding takes the exact value out of [0, 1], scipy says so and gives the asymptotic one.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.ks_2samp(x, y, method=method)
    value = float(found.statistic)
    return Estimate(value, _around(value, _massart(len(x), len(y)), 1.0), min(float(found.pvalue), 1.0))


def kolmogorov_smirnov_of_counts(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    """The asymptotic p value for histograms of equal bins: too large rather than too small."""
    from scipy import stats

    total = (int(a.sum()), int(b.sum()))
    value = float(np.abs(np.cumsum(a) / total[0] - np.cumsum(b) / total[1]).max())
    return min(float(stats.kstwobign.sf(value * math.sqrt(total[0] * total[1] / sum(total)))), 1.0)


def wasserstein(x: Array, y: Array, replicates: int = 200, seed: int = 0) -> Estimate:
    """Wasserstein-1 distance: area between the two distribution functions, in the units of the values.

    The interval uses that it is a metric: the distance of the laws lies within the distance found plus and minus
    how far each sample is from its own law. The 95 % quantile of that sum comes from a Poisson bootstrap of each
    sample about itself. So the interval holds 0 where the laws are equal, where a plain bootstrap's never does.
    """
    rng = np.random.default_rng(seed)
    own = _own_distances(x, replicates, rng) + _own_distances(y, replicates, rng)
    one, other, pooled = np.sort(x), np.sort(y), np.sort(np.concatenate([x, y]))
    below = (np.searchsorted(some, pooled[:-1], side="right") / len(some) for some in (one, other))
    # Sums and no inner products: those of BLAS depend on the number of threads in their last bits.
    value = float((np.abs(np.subtract(*below)) * np.diff(pooled)).sum())
    return Estimate(value, _around(value, float(np.quantile(own, CONFIDENCE)), math.inf))


def histogram_distance(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> float:
    """Wasserstein-1 distance of two histograms of equal bins from 0 to 1."""
    gap = np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum()
    return float(np.abs(gap).sum() / len(a))


def share_outside(outside: int, count_a: int, count_b: int) -> Estimate:
    """Share of B's rows outside the range from the smallest to the largest of A's.

    The interval is the exact binomial one (Clopper and Pearson). The p value is exact for any continuous law:
    where both have the same, the number outside follows a beta-binomial law with parameters 2 and count_a - 1.
    """
    from scipy import stats

    limits = stats.binomtest(outside, count_b).proportion_ci(CONFIDENCE, method="exact")
    chance = float(stats.betabinom.sf(outside - 1, count_b, 2, count_a - 1)) if count_a > 1 else None
    return Estimate(outside / count_b, (float(limits.low), float(limits.high)), chance)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number (Holm 1979): the chance of any false finding stays below the level."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min((len(order) - place) * p_values[i], 1.0))
        corrected[i] = highest
    return corrected


def moments4(values: Array) -> tuple[Array, Array]:
    """Skewness and kurtosis of each column of (n, d), those of the normal law for constant columns."""
    deviation = values - values.mean(axis=0)
    square = deviation * deviation
    variance = square.mean(axis=0)
    varies = variance > 0
    safe = np.where(varies, variance, 1.0)
    skewness = np.where(varies, (square * deviation).mean(axis=0) / safe**1.5, 0.0)
    return skewness, np.where(varies, (square * square).mean(axis=0) / safe**2, 3.0)


def _own_distances(x: Array, replicates: int, rng: np.random.Generator) -> Array:
    """Wasserstein-1 distance of Poisson-weighted replicates of a sample to the sample, shape (replicates,).

    It falls with the square root of the rows, so that of a large sample is found on `_QUANTILES` of it.
    """
    values = np.sort(x)
    if len(values) > _QUANTILES:
        values = values[((np.arange(_QUANTILES) + 0.5) * len(values) / _QUANTILES).astype(np.int64)]
    gaps, expected = np.diff(values), np.arange(1, len(values)) / len(values)
    sums = np.cumsum(rng.poisson(1.0, (replicates, len(values))), axis=1)
    total = np.maximum(sums[:, -1:], 1)
    return np.asarray((np.abs(sums[:, :-1] / total - expected) * gaps).sum(axis=1) * math.sqrt(len(values) / len(x)))


def _massart(*counts: int) -> float:
    return sum(math.sqrt(math.log(4 / (1 - CONFIDENCE)) / (2 * count)) for count in counts)


def _around(value: float, reach: float, most: float) -> Interval:
    return max(value - reach, 0.0), min(value + reach, most)


def _exp(value: float) -> float:
    return math.exp(min(max(value, -700.0), 700.0))
