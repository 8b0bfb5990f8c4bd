"""Intrinsic dimension of the latent cloud from distances to nearest neighbours, with intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.moments import Array
from ngvae_tools.record import Interval, IntrinsicDimension

MOST_POINTS = 5000
"""Points used at most; more are sampled."""

FEWEST_POINTS = 50
"""Distinct points below which nothing is estimated: 20 neighbours would be half of the cloud."""

NEIGHBOURS = range(10, 21)
"""Numbers of neighbours over which the maximum likelihood is averaged, as Levina and Bickel do."""

KEPT = 0.9
"""Share of the ratios that TwoNN uses as they are; the largest 10 % are known to be larger only."""

_ROUNDING = 1e-9
"""Mean log ratio of distances below which they are equal but for rounding."""

_BLOCKS = 32
_CONFIDENCE = 0.95


def intrinsic_dimension(
    points: npt.NDArray[np.floating], dimensions: tuple[int, ...], *, seed: int = 0
) -> tuple[IntrinsicDimension | None, tuple[str, ...]]:
    """Dimension of a cloud by TwoNN and by maximum likelihood, each with a 95 % interval.

    TwoNN (Facco et al. 2017): the ratios r of the distances to the second and first neighbour follow a Pareto law
    whose shape is the dimension. The paper fits a line through the smallest 90 % of them; here the largest 10 % are
    censored, which gives the maximum likelihood estimate m / (sum of the m smallest log r + (n - m) log r_m) and,
    other than the line, a variance. Maximum likelihood (Levina and Bickel 2004): the estimates of all points are
    averaged by their inverses (MacKay and Ghahramani 2005), then over 10 to 20 neighbours.

    Neighbouring points share distances, so neither interval takes points as independent: the variance is that of
    the sums over blocks of neighbouring points. Both estimators also have a bias that no number of images removes
    soon: near the border of a cloud, and where its density changes within the neighbourhood, they err, mostly
    downwards, the more the higher the dimension and the fewer the points (5,000 points of a uniform cube: 4.6 of 5
    and 8.4 of 10 by maximum likelihood). The interval therefore also spans the value that the estimates for 10 to
    20 neighbours tend to as the neighbourhood shrinks, where the bias goes with its radius. The upper end is at
    most the number of columns, unless the estimate itself is above.

    Args:
        points: Finite posterior means, shape (n, d); at most `MOST_POINTS` rows are used, drawn by `seed`.
        dimensions: The latent dimension of each column, length d.
        seed: Seed of the draw.

    Returns:
        The estimates, None where they are not defined, and a sentence for everything a reader must know.
    """
    if not dimensions:
        return None, ("The intrinsic dimension is not estimated: no dimension carries information.",)
    drawn = np.asarray(_drawn(points, seed), dtype=np.float64)
    distinct = np.unique(drawn, axis=0)
    notes: list[str] = []
    if repeated := len(drawn) - len(distinct):
        notes.append(
            f"{repeated:,} of {len(drawn):,} points sampled for the intrinsic dimension repeat others "
            "and were left out."
        )
    if len(distinct) < FEWEST_POINTS:
        notes.append(
            f"The intrinsic dimension is not estimated: it needs at least {FEWEST_POINTS} distinct points, "
            f"and there are {len(distinct):,}."
        )
        return None, tuple(notes)
    # One scale for all: squares of very small and very large doubles would leave their range.
    scaled = distinct / np.abs(distinct).max()
    logs = _log_distances(scaled)
    block = _blocks(scaled)
    two_nn = _two_nn(logs, block)
    by_likelihood = _maximum_likelihood(logs, block)
    if two_nn is None or by_likelihood is None:
        notes.append("The intrinsic dimension is not defined: the points lie at equal distances, as on a grid.")
        return None, tuple(notes)
    (estimate, error), (likelihood, likelihood_error, shift, shift_error) = two_nn, by_likelihood
    # The bias goes with the neighbourhood's radius: two neighbours reach less far than the ten it was taken at.
    share = (2 / NEIGHBOURS[0]) ** (1 / likelihood)
    quantile = _t_quantile(int(block.max()) + 1)
    columns = len(dimensions)
    result = IntrinsicDimension(
        dimensions=dimensions,
        n_points=len(distinct),
        two_nn=estimate,
        two_nn_interval=_interval(estimate, error, share * shift, share * shift_error, quantile, columns),
        maximum_likelihood=likelihood,
        maximum_likelihood_interval=_interval(likelihood, likelihood_error, shift, shift_error, quantile, columns),
    )
    return result, tuple(notes)


def _drawn(points: npt.NDArray[np.floating], seed: int) -> npt.NDArray[np.floating]:
    if len(points) <= MOST_POINTS:
        return points
    rows = np.random.default_rng(seed).choice(len(points), MOST_POINTS, replace=False)
    return points[np.sort(rows)]


def _log_distances(points: Array) -> Array:
    """Logarithms of the distances to the 20 nearest other points, shape (n, 20)."""
    from scipy.spatial import cKDTree

    distances = np.asarray(cKDTree(points).query(points, k=NEIGHBOURS[-1] + 1)[0])
    # Distinct points can still be nearer to each other than squares of doubles can tell.
    logs: Array = np.log(np.maximum(distances[:, 1:], np.finfo(np.float64).tiny))
    return logs


def _blocks(points: Array) -> npt.NDArray[np.intp]:
    """Number of the block of each point, shape (n,): halved along the widest column down to 1/32 or ten points."""
    most = max(len(points) / _BLOCKS, 10.0)
    block = np.empty(len(points), dtype=np.intp)
    halves, done = [np.arange(len(points))], 0
    while halves:
        rows = halves.pop()
        if len(rows) <= most:
            block[rows] = done
            done += 1
            continue
        column = points[rows].var(axis=0).argmax()
        ranked = rows[np.argsort(points[rows, column], kind="stable")]
        halves += [ranked[: len(rows) // 2], ranked[len(rows) // 2 :]]
    return block


def _two_nn(logs: Array, block: npt.NDArray[np.intp]) -> tuple[float, float] | None:
    """Estimate and standard error; None where the ratios say nothing."""
    ratio = logs[:, 1] - logs[:, 0]
    limit = np.sort(ratio)[int(np.ceil(KEPT * len(ratio))) - 1]
    seen = ratio <= limit
    held = np.minimum(ratio, limit)
    total = float(held.sum())
    if not total > _ROUNDING * len(ratio):
        return None
    estimate = float(seen.sum() / total)
    return estimate, _standard_error(seen - estimate * held, block) / total


def _maximum_likelihood(logs: Array, block: npt.NDArray[np.intp]) -> tuple[float, float, float, float] | None:
    """Estimate and standard error, and the shift to a neighbourhood of no size and its standard error."""
    sums = np.cumsum(logs, axis=1)
    inverse = np.stack([logs[:, k - 1] - sums[:, k - 2] / (k - 1) for k in NEIGHBOURS], axis=1)
    means = inverse.mean(axis=0)
    if not means.min() > _ROUNDING:
        return None
    estimates = 1 / means
    estimate = float(estimates.mean())
    radius = np.asarray(NEIGHBOURS, dtype=np.float64) ** (1 / estimate)
    from_mean = radius - radius.mean()
    slope = from_mean / (from_mean * from_mean).sum()
    to_zero = -radius.mean() * slope
    # Of each point, to first order, on the estimate of each number of neighbours.
    influence = -(estimates * estimates) * (inverse - means) / len(logs)
    error = _standard_error(influence.mean(axis=1), block)
    shift_error = _standard_error((influence * to_zero).sum(axis=1), block)
    return estimate, error, float((estimates * to_zero).sum()), shift_error


def _standard_error(influence: Array, block: npt.NDArray[np.intp]) -> float:
    """Standard error of the sum of what each point adds, points of a block being dependent."""
    sums = np.bincount(block, influence)
    return float(np.sqrt((sums * sums).sum() * len(sums) / (len(sums) - 1)))


def _interval(
    estimate: float, error: float, shift: float, shift_error: float, quantile: float, columns: int
) -> Interval:
    plain = quantile * error
    shifted = quantile * float(np.hypot(error, shift_error))
    low = min(estimate - plain, estimate + shift - shifted)
    high = max(estimate + plain, estimate + shift + shifted)
    return max(low, 0.0), min(high, max(estimate, float(columns)))


def _t_quantile(blocks: int) -> float:
    from scipy.special import stdtrit  # the quantile of scipy.stats.t, without the second that its import takes

    return float(stdtrit(blocks - 1, (1 + _CONFIDENCE) / 2))
