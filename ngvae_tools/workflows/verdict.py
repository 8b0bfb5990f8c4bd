"""What a finished pass says: the analysis record from the statistics, with the notes that limit it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ngvae_tools.analysis.covariance import covariance_metrics
from ngvae_tools.analysis.selection import RULES, default_threshold, select
from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.contract import P
from ngvae_tools.datasets import ImageDataset
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.posteriors import NormalGammaPosterior, PosteriorFamily
from ngvae_tools.record import (
    AnalysisRecord,
    DataInfo,
    DimensionStatistics,
    LatentsInfo,
    ModelInfo,
    Selection,
    finite_or_none,
)
from ngvae_tools.workflows.versions import versions_of

CLOSE = 0.05
"""A score this near to the threshold could fall on its other side in another training."""

UNSETTLED_P = 0.3
"""Above this standard deviation over images, p is near 0 for some images and near 1 for others."""


def analysis_record(
    session: EncoderSession,
    dataset: ImageDataset,
    statistics: LatentStatistics,
    selection: Selection,
    latents: LatentsInfo,
    n_rejected: int,
    timings: Mapping[str, float],
) -> AnalysisRecord:
    """The record of a data set that went through an encoder."""
    covariance = statistics.mu.covariance() if statistics.mu.count > 1 else None
    metrics, undefined = covariance_metrics(covariance)
    others = [name for name in RULES if name != selection.rule and (name != P or statistics.p is not None)]
    rules = (selection, *(select(statistics, name, default_threshold(session.family, name)) for name in others))
    return AnalysisRecord(
        model=ModelInfo(
            path=str(session.path.resolve()),
            sha256=session.sha256,
            family=session.metadata.family,
            latent_dim=session.latent_dim,
            hyperparameters=session.metadata.hyperparameters,
            provider=session.provider,
        ),
        data=DataInfo(
            path=str(dataset.path.resolve()),
            kind=dataset.kind,
            fingerprint=dataset.fingerprint(),
            n_images=len(dataset),
            n_rejected=n_rejected,
            image_shape=dataset.image_shape,
            resize=dataset.resize,
        ),
        selection=selection,
        rules=rules,
        dimensions=_dimensions(statistics, selection),
        covariance=None if covariance is None else tuple(tuple(row) for row in covariance.tolist()),
        metrics=metrics,
        latents=latents,
        timings=timings,
        versions=versions_of("numpy", "scipy", "onnx", "onnxruntime", "onnxruntime-gpu", "h5py", "pillow"),
        notes=(*session.notes, *notes_on(session.family, statistics, rules), *undefined),
    )


def _dimensions(statistics: LatentStatistics, selection: Selection) -> tuple[DimensionStatistics, ...]:
    nothing = np.full(len(selection.score), np.nan)
    mu_variance = np.diag(statistics.mu.covariance()) if statistics.mu.count > 1 else nothing
    p_mean = nothing if statistics.p is None else statistics.p.mean
    p_std = nothing if statistics.p is None or statistics.p.count < 2 else np.sqrt(statistics.p.covariance())
    return tuple(
        DimensionStatistics(
            index=k,
            informative=selection.informative[k],
            mu_mean=float(statistics.mu.mean[k]),
            mu_variance=finite_or_none(mu_variance[k]),
            posterior_variance=float(statistics.variance.mean[k]),
            posterior_entropy=float(statistics.entropy.mean[k]),
            p_mean=finite_or_none(p_mean[k]),
            p_std=finite_or_none(p_std[k]),
        )
        for k in range(len(selection.score))
    )


def notes_on(family: PosteriorFamily, statistics: LatentStatistics, rules: tuple[Selection, ...]) -> list[str]:
    """Sentences on what limits the verdict."""
    notes = []
    if isinstance(family, NormalGammaPosterior):
        p, kl = family.interior_minimum()
        notes.append(
            f"Under the paper's printed objective a dimension that carries nothing is drawn to p = {p:.3f}, where "
            f"its KL is {kl:.3f} nat, and an informative one can hide at p near 1 by growing mu: read p with care."
        )
    if len({rule.informative for rule in rules}) > 1:
        counts = ", ".join(f"{rule.count} by rule {rule.rule}" for rule in rules)
        notes.append(f"The rules disagree on which dimensions are informative: {counts}.")
    chosen = rules[0]
    close = [k for k, score in enumerate(chosen.score) if abs(score - chosen.threshold) < CLOSE]
    if close:
        listed = ", ".join(str(k) for k in close)
        subject = f"Dimensions {listed} lie" if len(close) > 1 else f"Dimension {listed} lies"
        notes.append(f"{subject} within {CLOSE:g} of the threshold: the count is not settled there.")
    if chosen.count == len(chosen.score) > 1:
        notes.append("Every dimension is informative: the data may need more; train with a larger --latent-dim.")
    if statistics.p is not None and statistics.p.count > 1:
        unsettled = np.flatnonzero(np.sqrt(statistics.p.covariance()) > UNSETTLED_P)
        if len(unsettled):
            listed = ", ".join(str(k) for k in unsettled)
            notes.append(f"p differs from image to image in dimensions {listed}: informative for some images only.")
    return notes
