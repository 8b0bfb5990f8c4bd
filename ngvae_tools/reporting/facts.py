"""What an analysis says, as rows of label and text that the terminal and the page share; stdlib only."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ngvae_tools.analysis.indices import indices
from ngvae_tools.reporting import costs, metrics, rules, storage
from ngvae_tools.reporting.rejections import reasons_text, rejected_text
from ngvae_tools.reporting.words import count, flat, number, plain, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ngvae_tools.record import AnalysisRecord, DimensionStatistics, Reconstruction

Rows = list[tuple[str, str]]

CONSIDERABLE = 0.01
"""Share of images that could not be used from which a reader must know of it."""


def headline(record: AnalysisRecord) -> str:
    """The answer in one line: how many dimensions are informative by the record's rule."""
    dim = record.model.latent_dim
    noun = "dimension" if dim == 1 else "dimensions"
    if record.selection.rule == rules.GIVEN:
        return f"{record.selection.count} of {dim} {noun} named beforehand"
    verb = "is" if dim == 1 else "are"
    return f"{record.selection.count} of {dim} {noun} {verb} informative"


def ordered(record: AnalysisRecord) -> list[DimensionStatistics]:
    """The rows of the dimensions, informative ones first, by index within each group."""
    return sorted(record.dimensions, key=lambda row: (not row.informative, row.index))


def verdict_rows(record: AnalysisRecord) -> Rows:
    """The verdict and how sure it is: indices, count with its interval, rule, threshold, intrinsic dimension."""
    selection = record.selection
    optional = [
        ("Threshold", rules.sensitivity(selection)),
        ("Not settled", rules.unsettled(record)),
        ("Intrinsic dimension", "" if record.intrinsic_dimension is None else metrics.intrinsic_text(record)),
        ("Knee of the error", "" if record.truncation is None else costs.knee_text(record.truncation)),
    ]
    return [
        ("Informative", f"{rules.count_text(selection, record)}: {indices(selection.indices)}"),
        ("Rule", rules.rule_text(selection)),
        *((label, text) for label, text in optional if text),
    ]


def brief_rows(record: AnalysisRecord) -> Rows:
    """`verdict_rows` where the analysis is one of several, whose rules are compared."""
    return [(label, text) for label, text in verdict_rows(record) if label not in {"Rule", "Threshold"}]


def about_rows(record: AnalysisRecord) -> Rows:
    """What was analysed: family, images, latent file, bootstrap, speed."""
    model, data, bootstrap = record.model, record.data, record.bootstrap
    positions = f" at each of {count(model.positions)} positions" if model.positions > 1 else ""
    result = [
        ("Model family", f"{plain(model.family)}, K = {model.latent_dim}{positions}"),
        ("Images", f"{count(data.n_images)} seen, {count(data.n_rejected)} rejected"),
        *storage.rows(record),
    ]
    if bootstrap is not None:
        text = (
            f"{rules.confidence(record)} by a Poisson bootstrap over images, {count(bootstrap.replicates)} replicates"
        )
        result.append(("Intervals", text))
    if record.reconstruction is not None:
        result += _reconstruction_rows(record.reconstruction)
    speed = record.timings.get("images_per_second")
    return [*result, ("Speed", f"{count(round(speed))} images/s")] if speed is not None else result


def _reconstruction_rows(found: Reconstruction) -> Rows:
    """What quantisation costs in images."""

    def text(psnr: float | None, ssim: float | None) -> str:
        decibels = "equal images" if psnr is None else f"PSNR {psnr:.2f} dB"
        return decibels if ssim is None else f"{decibels}, SSIM {ssim:.4f}"

    quantised = text(found.psnr_quantised, found.ssim_quantised)
    unquantised = text(found.psnr_unquantised, found.ssim_unquantised)
    sample = plural(found.n_images, "image", "images")
    return [
        ("Reconstruction", f"{quantised} against {sample}; {unquantised} before quantisation"),
        ("Quantisation", f"{text(found.psnr_both, found.ssim_both)} against the reconstruction before it"),
    ]


def notes(record: AnalysisRecord) -> tuple[str, ...]:
    """The record's notes, what follows from its numbers, and one that owns up where a number is n/a without a note."""
    rejected = tuple(_on_rejected(record))
    absent = [name for name, value in dataclasses.asdict(record.metrics).items() if value is None]
    if absent and not record.notes:
        return (*rejected, f"The record does not say why {', '.join(absent)} is not defined.")
    return (*rejected, *(plain(note) for note in record.notes))


def _on_rejected(record: AnalysisRecord) -> Iterator[str]:
    """That a considerable share of the images could not be used, and why."""
    data = record.data
    if data.n_rejected and data.n_rejected >= CONSIDERABLE * data.n_images:
        text = rejected_text(record.rejections, data.n_rejected, data.n_images)
        yield f"{text}. What is said here is of the others; rejected.jsonl lists each."


def data_rows(record: AnalysisRecord) -> Rows:
    """How the data were used."""
    data = record.data
    kept = f" of shape {' x '.join(map(str, data.image_shape))} (height, width, channels)"
    return [
        ("Data set", f"{plain(data.path)} ({plain(data.kind)})"),
        ("Seen", plural(data.n_images, "image", "images") + kept),
        ("Rejected", _rejected(record)),
        ("Resize", "none: images were taken as they are" if data.resize is None else plain(data.resize)),
        ("Fingerprint", plain(data.fingerprint)),
    ]


def _rejected(record: AnalysisRecord) -> str:
    total = record.data.n_rejected
    if not total:
        return "0"
    reasons = reasons_text(record.rejections, total)
    return f"{count(total)}{reasons and ': '}{reasons}; listed in rejected.jsonl"


def provenance_rows(record: AnalysisRecord) -> Rows:
    """What made the record: hashes, hyperparameters, versions, seconds."""
    model, latents = record.model, record.latents
    return [
        ("Encoder", plain(model.path)),
        ("Encoder SHA-256", plain(model.sha256)),
        ("Read as", plain(model.reading)),
        ("Execution provider", plain(model.provider)),
        *((f"Hyperparameter {name}", text) for name, text in flat(dict(model.hyperparameters))),
        ("Latent file", f"{plain(latents.file)}, dimensions {indices(latents.dimensions)}"),
        ("Latent file SHA-256", plain(latents.sha256)),
        *((f"Version of {name}", text) for name, text in flat(dict(record.versions))),
        *((f"Timing {plain(name)}", number(value)) for name, value in record.timings.items()),
    ]
