"""Metrics of the covariance of mu over the data: pure functions of a matrix of shape (K, K).

Source: Section IV of the paper, read as SCIENCE.md section 1 explains; total correlation of a Gaussian fit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import UndefinedMetricError
from ngvae_tools.record import CovarianceMetrics

Array = npt.NDArray[np.float64]

DEGENERATE = 1e-12
"""A dimension whose variance is below this share of the largest one is constant to the precision of float32 heads."""


def entropy(covariance: Array) -> float:
    """Entropy in nats of diag(C) / trace(C): log K when all dimensions vary alike, 0 when one does.

    Raises:
        UndefinedMetricError: No dimension varies.
    """
    diagonal = np.diag(covariance)
    if not diagonal.sum() > 0:
        raise _undefined("entropy", "a dimension that varies", "constant dimensions only")
    share = diagonal[diagonal > 0] / diagonal.sum()
    return float(-(share * np.log(share)).sum())


def decorrelation(covariance: Array) -> float:
    """Trace over the sum of the absolute off-diagonal terms.

    Raises:
        UndefinedMetricError: There is one dimension, or no two dimensions vary together.
    """
    return _trace_ratio("decorrelation", covariance, np.abs(covariance))


def decorrelation_signed(covariance: Array) -> float:
    """Trace over the sum of the signed off-diagonal terms, as the paper seems to have it.

    Terms of opposite sign cancel, so the value can be large, negative, and unstable for correlated latents.

    Raises:
        UndefinedMetricError: There is one dimension, or the terms sum to zero.
    """
    return _trace_ratio("decorrelation_signed", covariance, covariance)


def total_correlation(covariance: Array) -> float:
    """Total correlation in nats of a Gaussian fit, (sum log diag C - log det C) / 2.

    Constant dimensions are independent of all others and left out.

    Raises:
        UndefinedMetricError: No dimension varies, or some depend linearly on others (it is infinite then).
    """
    diagonal = np.diag(covariance)
    varying = diagonal > DEGENERATE * diagonal.max(initial=0.0)
    if not varying.any():
        raise _undefined("total_correlation", "a dimension that varies", "constant dimensions only")
    scale = np.sqrt(diagonal[varying])
    correlation = covariance[np.ix_(varying, varying)] / np.outer(scale, scale)
    eigenvalues = np.linalg.eigvalsh(correlation)
    # Below this an eigenvalue is rounding: its logarithm would be noise.
    if eigenvalues[0] <= len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues[-1]:
        raise _undefined(
            "total_correlation", "linearly independent dimensions", "dimensions that repeat others"
        )
    return float(max(-0.5 * np.log(eigenvalues).sum(), 0.0))


def covariance_metrics(covariance: Array | None) -> tuple[CovarianceMetrics, tuple[str, ...]]:
    """Every metric of a covariance (None: fewer than two images), and a sentence for each that is undefined."""
    if covariance is None:
        note = "entropy, decorrelation and total correlation need at least two images."
        return CovarianceMetrics(None, None, None, None), (note,)
    values: dict[str, float | None] = {}
    notes = []
    for metric in (entropy, decorrelation, decorrelation_signed, total_correlation):
        try:
            values[metric.__name__] = metric(covariance)
        except UndefinedMetricError as error:
            values[metric.__name__] = None
            notes.append(f"{error.problem}: it needs {error.expected}, and there are {error.found}.")
    return CovarianceMetrics(**values), tuple(notes)


def _trace_ratio(name: str, covariance: Array, terms: Array) -> float:
    if len(covariance) == 1:
        raise _undefined(name, "at least two dimensions", "a single dimension only")
    trace = float(np.trace(covariance))
    off_diagonal = float(terms.sum() - np.trace(terms))
    # Terms that cancel to rounding have no ratio.
    if abs(off_diagonal) <= np.finfo(np.float64).eps * trace or not np.isfinite(trace / off_diagonal):
        raise _undefined(name, "off-diagonal terms that do not sum to zero", "terms that do")
    return trace / off_diagonal


def _undefined(name: str, expected: str, found: str) -> UndefinedMetricError:
    return UndefinedMetricError(
        f"{name} is not defined", expected=expected, found=found, remedy="use more data or more dimensions"
    )
