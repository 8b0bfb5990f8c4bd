"""Metrics of the covariance of mu over the data: pure functions of a matrix of shape (K, K).

Source: Section IV of the paper, read as SCIENCE.md section 1 explains; total correlation of a Gaussian fit.
"""

from __future__ import annotations

from collections.abc import Callable

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
    diagonal = np.diag(covariance)
    if not diagonal.sum() > 0:
        raise _undefined("entropy", "a dimension that varies", "constant dimensions only")
    share = diagonal[diagonal > 0] / diagonal.sum()
    # The logarithms' sum is never positive; max gives 0.0 where its negative would be -0.0.
    return max(0.0, -float((share * np.log(share)).sum()))


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
    scale = np.sqrt(np.diag(varying))
    correlation = varying / np.outer(scale, scale)
    eigenvalues = np.linalg.eigvalsh(correlation)
    # Below this an eigenvalue is rounding: its logarithm would be noise.
    if eigenvalues[0] <= len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues[-1]:
        raise _undefined("total_correlation", "linearly independent dimensions", "dimensions that repeat others")
    return max(0.0, -0.5 * float(np.log(eigenvalues).sum()))


def covariance_metrics(covariance: Array | None) -> tuple[CovarianceMetrics, tuple[str, ...]]:
    """Every metric of a covariance, and a sentence for each that is undefined; None: fewer than two images."""
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


def _varying(covariance: Array) -> Array:
    """The rows and columns of dimensions that vary."""
    diagonal = np.diag(covariance)
    varying = diagonal > DEGENERATE * diagonal.max(initial=0.0)
    return covariance[np.ix_(varying, varying)]


def _trace_ratio(name: str, covariance: Array, term: Callable[[Array], Array]) -> float:
    varying = _varying(covariance)
    if len(varying) < 2:
        found = "a single dimension only" if len(covariance) == 1 else f"{len(varying)} of them"
        raise _undefined(name, "at least two dimensions that vary", found)
    terms = term(varying)
    trace = float(np.trace(varying))
    off_diagonal = float(terms.sum() - np.trace(terms))
    # Terms that cancel to rounding have no ratio.
    if abs(off_diagonal) <= np.finfo(np.float64).eps * trace or not np.isfinite(trace / off_diagonal):
        raise _undefined(name, "off-diagonal terms that do not sum to zero", "terms that do")
    return trace / off_diagonal


def _undefined(name: str, expected: str, found: str) -> UndefinedMetricError:
    return UndefinedMetricError(
        f"{name} is not defined", expected=expected, found=found, remedy="use more data or more dimensions"
    )
