"""Covariance metrics with their variants, and the intrinsic dimension, as texts; stdlib only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ngvae_tools.reporting.words import ABSENT, count, number, span

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord, CovarianceMetrics

LABELS = {
    "entropy": "entropy, nats",
    "effective_dimensions": "effective dimensions: exp of the entropy",
    "participation_ratio": "participation ratio of the eigenvalues",
    "decorrelation": "decorrelation, absolute terms",
    "decorrelation_signed": "decorrelation, signed terms (the paper's reading)",
    "decorrelation_correlation": "decorrelation of the correlation matrix",
    "total_correlation": "total correlation of a Gaussian fit, nats",
}

HEADS = ("covariance of the posterior means", "of samples of the posterior")


def metric_rows(record: AnalysisRecord, *, samples: bool) -> list[tuple[str, list[str]]]:
    """A label and its value of the means and, where asked for and there, of samples of the posterior."""
    dim = record.model.latent_dim
    ceilings = dict.fromkeys(("effective_dimensions", "participation_ratio"), f" (at most {dim})")
    if dim > 0:
        ceilings["entropy"] = f" (at most ln {dim} = {math.log(dim):.3f})"
    which: list[CovarianceMetrics] = [record.metrics]
    if samples and record.sample_metrics is not None:
        which.append(record.sample_metrics)
    return [
        (f"{label}{ceilings.get(name, '')}", [number(getattr(metrics, name)) for metrics in which])
        for name, label in LABELS.items()
    ]


def intrinsic_text(record: AnalysisRecord) -> str:
    """Both estimates with their intervals; n/a where there is none."""
    found = record.intrinsic_dimension
    if found is None:
        return ABSENT
    both = [
        f"{number(value, 1)} ({span(ends, 1)}) by {name}"
        for name, value, ends in (
            ("TwoNN", found.two_nn, found.two_nn_interval),
            ("maximum likelihood", found.maximum_likelihood, found.maximum_likelihood_interval),
        )
        if value is not None
    ]
    return f"{', '.join(both) or ABSENT}; {count(found.n_points)} points"
