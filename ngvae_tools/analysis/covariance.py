"""Metrics of the covariance of mu over the data: pure functions of a matrix of shape (K, K).

Source: Section IV of the paper, read as SCIENCE.md section 1 explains; total correlation of a Gaussian fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import UndefinedMetricError
from ngvae_tools.record import CovarianceMetrics

Array = npt.NDArray[np.float64]

DEGENERATE = 1e-12
"""A dimension whose variance is below this share of the largest is constant, to the precision of float32 heads."""


def entropy(covariance: Array) -> float:
    """Entropy in nats of diag(C) / trace(C): log K when all dimensions vary alike, 0 when one does.

    Raises:
        UndefinedMetricError: No dimension varies.
    """
    return _entropy("entropy", covariance)


def decorrelation(covariance: Array) -> float:
    """Trace over the sum of the absolute off-diagonal terms, constant dimensions left out.

    Raises:
        UndefinedMetricError: Fewer than two dimensions vary, or no two vary together.
    """
    return _trace_ratio("decorrelation", covariance, np.abs)


def decorrelation_signed(covariance: Array) -> float:
    """Trace over the sum of the signed off-diagonal terms, as the paper seems to have it; constant ones left out.

    Terms of opposite sign cancel, so the value can be large, negative, and unstable for correlated latents.

    Raises:
        UndefinedMetricError: Fewer than two dimensions vary, or the terms sum to zero.
    """
    return _trace_ratio("decorrelation_signed", covariance, np.asarray)


def total_correlation(covariance: Array) -> float:
    """Total correlation in nats of a Gaussian fit, (sum log diag C - log det C) / 2.

    Constant dimensions are independent of all others and left out.

    Raises:
        UndefinedMetricError: No dimension varies, or some depend linearly on others (it is infinite then).
    """
    varying = _varying(covariance)
    if len(varying) == 0:
        raise _undefined("total_correlation", "a dimension that varies", "constant dimensions only")
    eigenvalues = np.linalg.eigvalsh(_correlation(varying))
    # Below this an eigenvalue is rounding: its logarithm would be noise.
    if eigenvalues[0] <= len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues[-1]:
        raise _undefined("total_correlation", "linearly independent dimensions", "dimensions that others determine")
    return max(0.0, -0.5 * float(np.log(eigenvalues).sum()))


def decorrelation_correlation(covariance: Array) -> float:
    """`decorrelation` of the correlation matrix: no dimension weighs more because it varies more.

    Raises:
        UndefinedMetricError: Fewer than two dimensions vary, or no two vary together.
    """
    varying = _varying(covariance)
    return _trace_ratio("decorrelation_correlation", _correlation(varying), np.abs)


def effective_dimensions(covariance: Array) -> float:
    """Exponential of `entropy`: the number of dimensions of equal variance that have the same entropy.

    Raises:
        UndefinedMetricError: No dimension varies.
    """
    return float(np.exp(_entropy("effective_dimensions", covariance)))


def participation_ratio(covariance: Array) -> float:
    """Squared sum of the eigenvalues over the sum of their squares: K for a multiple of the identity, 1 for rank one.

    Raises:
        UndefinedMetricError: No dimension varies.
    """
    trace = float(np.trace(covariance))
    if not trace > 0:
        raise _undefined("participation_ratio", "a dimension that varies", "constant dimensions only")
    share = covariance / trace
    return float(1 / (share * share).sum())


def covariance_metrics(covariance: Array | None) -> tuple[CovarianceMetrics, tuple[str, ...]]:
    """Every metric of a covariance, and a sentence for each reason why some are undefined; None: under two images."""
    if covariance is None:
        note = "Metrics of the covariance need at least two images."
        return CovarianceMetrics(**dict.fromkeys(_METRICS)), (note,)
    values: dict[str, float | None] = {}
    undefined: dict[tuple[str, str], list[str]] = {}
    for name, metric in _METRICS.items():
        try:
            values[name] = metric(covariance)
        except UndefinedMetricError as error:
            values[name] = None
            undefined.setdefault((error.expected, error.found), []).append(name)
    return CovarianceMetrics(**values), tuple(_sentence(names, *reason) for reason, names in undefined.items())


_METRICS: Mapping[str, Callable[[Array], float]] = {
    metric.__name__: metric
    for metric in (
        entropy,
        decorrelation,
        decorrelation_signed,
        decorrelation_correlation,
        total_correlation,
        effective_dimensions,
        participation_ratio,
    )
}


def _entropy(name: str, covariance: Array) -> float:
    diagonal = np.diag(covariance)
    if not diagonal.sum() > 0:
        raise _undefined(name, "a dimension that varies", "constant dimensions only")
    share = diagonal[diagonal > 0] / diagonal.sum()
    # The logarithms' sum is never positive; max gives 0.0 where its negative would be -0.0.
    return max(0.0, -float((share * np.log(share)).sum()))


def _correlation(covariance: Array) -> Array:
    scale = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / np.outer(scale, scale))


def _varying(covariance: Array) -> Array:
    """The rows and columns of dimensions that vary."""
    diagonal = np.diag(covariance)
    varying = diagonal > DEGENERATE * diagonal.max(initial=0.0)
    return covariance[np.ix_(varying, varying)]


def _trace_ratio(name: str, covariance: Array, term: Callable[[Array], Array]) -> float:
    varying = _varying(covariance)
    if len(varying) < 2:
        raise _undefined(name, "at least two dimensions that vary", "fewer")
    terms = term(varying)
    trace = float(np.trace(varying))
    off_diagonal = float(terms.sum() - np.trace(terms))
    # Terms that cancel to rounding have no ratio.
    if abs(off_diagonal) <= np.finfo(np.float64).eps * trace or not np.isfinite(trace / off_diagonal):
        raise _undefined(name, "off-diagonal terms that do not sum to zero", "terms that do")
    return trace / off_diagonal


def _sentence(names: list[str], expected: str, found: str) -> str:
    if len(names) == 1:
        return f"{names[0]} is not defined: it needs {expected}, and there are {found}."
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{listed} are not defined: they need {expected}, and there are {found}."


def _undefined(name: str, expected: str, found: str) -> UndefinedMetricError:
    return UndefinedMetricError(
        f"{name} is not defined", expected=expected, found=found, remedy="use more data or more dimensions"
    )
