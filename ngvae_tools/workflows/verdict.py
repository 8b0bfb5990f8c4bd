"""What a finished pass says: the analysis record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.bootstrap import CONFIDENCE, interval
from ngvae_tools.analysis.covariance import covariance_metrics
from ngvae_tools.analysis.indices import indices
from ngvae_tools.analysis.intrinsic import MOST_POINTS, intrinsic_dimension
from ngvae_tools.analysis.selection import RULES, TYPES, Scores, latent_types, signal_to_noise
from ngvae_tools.analysis.survey import Findings
from ngvae_tools.record import (
    AnalysisRecord,
    Bootstrap,
    DimensionStatistics,
    IntrinsicDimension,
    LatentsInfo,
    Reconstruction,
    Selection,
    Supervised,
    Truncation,
)
from ngvae_tools.reporting.rejections import RejectionTally
from ngvae_tools.workflows.encoding_pass import EncodingPass
from ngvae_tools.workflows.notes import notes_on
from ngvae_tools.workflows.versions import versions_of

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the statistics alone say.

    Attributes:
        selection: The verdict by the rule that was asked for, or the given dimensions.
        rules: Every verdict, `selection` first.
        intrinsic: Dimension of the cloud of posterior means.
        notes: Sentences a reader must know.
    """

    selection: Selection
    rules: tuple[Selection, ...]
    intrinsic: IntrinsicDimension | None
    notes: tuple[str, ...]


def verdict_of(findings: Findings, selection: Selection) -> Verdict:
    """Apply every rule, and estimate the dimension of the cloud that the informative dimensions span."""
    others = (findings.selection(rule) for rule in RULES if rule != selection.rule)
    rules = (selection, *(rule for rule in others if rule is not None))
    intrinsic, remarks = _cloud(findings, rules)
    return Verdict(selection, rules, intrinsic, (*notes_on(findings, rules, intrinsic), *remarks))


def _cloud(findings: Findings, rules: tuple[Selection, ...]) -> tuple[IntrinsicDimension | None, tuple[str, ...]]:
    """Intrinsic dimension of the dimensions that carry information, each in units of its posterior noise."""
    by_name = {rule.rule: rule for rule in rules}
    carrying = (by_name.get("information") or by_name.get("active") or rules[0]).indices
    if findings.n_images == 1:
        return None, ("The intrinsic dimension is not estimated: it needs more than one image.",)
    if not carrying:
        return None, ("No dimension carries information, so the cloud of latents has no dimension.",)
    chosen = findings.sample.smallest(MOST_POINTS)
    points = findings.sample.mu[chosen][:, carrying].astype(np.float64)
    variance = findings.scores.variance
    if variance is not None:
        points /= np.sqrt(np.maximum(variance[list(carrying)], np.finfo(np.float64).tiny))
    return intrinsic_dimension(points, carrying)


def analysis_record(
    encoding: EncodingPass,
    findings: Findings,
    verdict: Verdict,
    latents: LatentsInfo,
    rejected: RejectionTally,
    timings: Mapping[str, float],
    *,
    bootstrap: Bootstrap | None,
    truncation: Truncation | None,
    supervised: Supervised | None,
    reconstruction: Reconstruction | None = None,
    notes: tuple[str, ...],
) -> AnalysisRecord:
    """The record of a data set that went through an encoder."""
    moments = findings.statistics.mu
    covariance = moments.covariance() if findings.n_images > 1 else None
    metrics, undefined = covariance_metrics(covariance)
    variance = findings.scores.variance
    sampled = None
    undefined_of_samples: tuple[str, ...] = ()
    if covariance is not None and variance is not None:
        sampled, sentences = covariance_metrics(covariance + np.diag(variance))
        undefined_of_samples = tuple(f"For samples of the posterior, {sentence}" for sentence in sentences)
    return AnalysisRecord(
        model=encoding.model,
        data=dataclasses.replace(encoding.data, n_rejected=rejected.total),
        selection=verdict.selection,
        rules=verdict.rules,
        dimensions=_dimensions(findings, verdict.selection),
        covariance=None if covariance is None else tuple(tuple(row) for row in covariance.tolist()),
        metrics=metrics,
        latents=latents,
        timings=timings,
        versions={**encoding.versions, **versions_of("scikit-learn")},
        sample_metrics=sampled,
        intrinsic_dimension=verdict.intrinsic,
        bootstrap=None if findings.replicates is None else bootstrap,
        truncation=truncation,
        supervised=supervised,
        reconstruction=reconstruction,
        notes=(
            *encoding.model_notes,
            *_origin(encoding.kept),
            *verdict.notes,
            *undefined,
            *undefined_of_samples,
            *notes,
        ),
        rejections=rejected.reasons,
    )


def _origin(kept: tuple[int, ...] | None) -> tuple[str, ...]:
    """Which dimensions of the whole encoder those of a pruned one are."""
    if kept is None:
        return ()
    return (f"The encoder was pruned: its dimensions are {indices(kept)} of the whole one, in this order.",)


def bootstrap_of(replicates: int, seed: int = 0) -> Bootstrap | None:
    """How the intervals are made; None without replicates."""
    return Bootstrap(replicates, CONFIDENCE, seed) if replicates else None


def _dimensions(findings: Findings, selection: Selection) -> tuple[DimensionStatistics, ...]:
    seen, replicates = findings.statistics, findings.replicate_scores
    columns = _columns(findings, findings.scores)
    intervals = {} if replicates is None else _intervals(findings, replicates)
    types = latent_types(findings.scores, findings.family)
    histogram = seen.p_histogram
    return tuple(
        DimensionStatistics(
            index=k,
            informative=selection.informative[k],
            mu_mean=float(seen.mu.mean[k]),
            mu_low=float(seen.low[k]),
            mu_high=float(seen.high[k]),
            type=None if types is None else TYPES[int(types[k])],
            p_histogram=None if histogram is None else tuple(histogram[k].tolist()),
            intervals={name: (float(low[k]), float(high[k])) for name, (low, high) in intervals.items()},
            **{name: None if column is None else float(column[k]) for name, column in columns.items()},
        )
        for k in range(len(selection.score))
    )


def _columns(findings: Findings, scores: Scores) -> dict[str, Array | None]:
    """Statistics of the record by their names there, shape (K,) each; None where one is not defined."""
    seen, found = findings.statistics, findings.information
    floor = findings.family.rate_floor
    return {
        "mu_variance": scores.mu_variance,
        "posterior_variance": scores.variance,
        "posterior_variance_std": scores.variance_std,
        "posterior_entropy": None if seen.entropy is None else seen.entropy.mean,
        "rate": scores.rate,
        "rate_floor": None
        if floor is None
        else np.broadcast_to(np.asarray(floor, dtype=np.float64), seen.mu.mean.shape),
        "information": scores.information,
        "information_error": None if found is None else found.error,
        "snr": signal_to_noise(scores),
        "p_mean": scores.p,
        "p_std": None if seen.p is None or findings.n_images < 2 else np.sqrt(seen.p.covariance()),
    }


def _intervals(findings: Findings, scores: Scores) -> dict[str, Array]:
    """Bootstrap intervals of the same statistics, (2, K) each; those that are defined in every replicate."""
    raw = findings.replicates or {}
    replicates = {
        "mu_mean": raw["mu"][0],
        "mu_variance": scores.mu_variance,
        "posterior_variance": scores.variance,
        "posterior_variance_std": scores.variance_std,
        "posterior_entropy": raw["entropy"][0] if "entropy" in raw else None,
        "rate": scores.rate,
        "information": scores.information,
        "snr": signal_to_noise(scores),
        "p_mean": scores.p,
        "p_std": np.sqrt(raw["p"][1]) if "p" in raw else None,
    }
    found = {name: interval(values) for name, values in replicates.items() if values is not None}
    return {name: ends for name, ends in found.items() if ends is not None}
