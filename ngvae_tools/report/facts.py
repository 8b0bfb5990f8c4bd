"""What an analysis says, as rows of label and text that the terminal and the page share; stdlib only."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from ngvae_tools.report.words import ABSENT, count, flat, indices, number, plain, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ngvae_tools.record import AnalysisRecord, DimensionStatistics, Selection
    from ngvae_tools.report.sources import NamedAnalysis

_SCORES = {"p": "mean p", "variance": "mean posterior variance"}

Rows = list[tuple[str, str]]


def headline(record: AnalysisRecord) -> str:
    """The answer in one line: how many dimensions carry information by the record's rule."""
    dim = record.model.latent_dim
    noun = "dimension" if dim == 1 else "dimensions"
    verb = "carries" if dim == 1 else "carry"
    return f"{record.selection.count} of {dim} {noun} {verb} information"


def rule_text(selection: Selection) -> str:
    """The rule and its threshold, as in `mean p below 0.5`."""
    return f"{_SCORES.get(selection.rule, plain(selection.rule))} below {selection.threshold:g}"


def rule_sentence(selection: Selection) -> str:
    """The rule within a sentence, as in `its mean p is below 0.5`."""
    return f"its {rule_text(selection).replace(' below ', ' is below ')}"


def ordered(record: AnalysisRecord) -> list[DimensionStatistics]:
    """The rows of the dimensions, informative ones first, by index within each group."""
    return sorted(record.dimensions, key=lambda row: (not row.informative, row.index))


def totals_rows(record: AnalysisRecord) -> Rows:
    """The analysis as a whole: family, verdict, covariance metrics (nats), images, latent file, speed."""
    metrics, data, latents = record.metrics, record.data, record.latents
    dim = record.model.latent_dim
    ceiling = f"ceiling ln {dim} = {math.log(dim):.3f}" if dim > 0 else "no ceiling"
    per_image = latents.bytes / rows if (rows := data.n_images - data.n_rejected) > 0 else None
    result = [
        ("Model family", f"{plain(record.model.family)}, K = {dim}"),
        ("Informative", f"{record.selection.count} of {dim}: {indices(record.selection.indices)}"),
        ("Rule", rule_text(record.selection)),
        *(
            ("Other rule", _other(rule, record.selection))
            for rule in record.rules
            if rule.rule != record.selection.rule
        ),
        ("Entropy", f"{_nats(metrics.entropy)} ({ceiling})"),
        ("Decorrelation, absolute", number(metrics.decorrelation)),
        ("Decorrelation, signed", f"{number(metrics.decorrelation_signed)} (the paper's reading)"),
        ("Total correlation", _nats(metrics.total_correlation)),
        ("Images", f"{count(data.n_images)} seen, {count(data.n_rejected)} rejected"),
        (
            "Latent file",
            f"{plain(latents.file)}, {count(latents.bytes)} bytes, {number(per_image, 2)} an image",
        ),
    ]
    speed = record.timings.get("images_per_second")
    return [*result, ("Speed", f"{count(round(speed))} images/s")] if speed is not None else result


def notes(record: AnalysisRecord) -> tuple[str, ...]:
    """The record's notes, and one that owns up where a number is n/a and no note is there to say why."""
    absent = [name for name, value in dataclasses.asdict(record.metrics).items() if value is None]
    if absent and not record.notes:
        return (f"The record does not say why {', '.join(absent)} is not defined.",)
    return tuple(plain(note) for note in record.notes)


def comparison_rows(analyses: Sequence[NamedAnalysis]) -> list[tuple[str, list[str]]]:
    """Table I of the paper: a label and one text for each analysis (entropies in nats)."""
    records = [named.record for named in analyses]
    return [
        ("entropy", [number(r.metrics.entropy) for r in records]),
        ("decorrelation (absolute)", [number(r.metrics.decorrelation) for r in records]),
        (
            "decorrelation (signed: the paper's reading)",
            [number(r.metrics.decorrelation_signed) for r in records],
        ),
        ("total correlation", [number(r.metrics.total_correlation) for r in records]),
        ("informative (by its rule)", [f"{r.selection.count} ({plain(r.selection.rule)})" for r in records]),
        ("K", [str(r.model.latent_dim) for r in records]),
        ("images", [count(r.data.n_images - r.data.n_rejected) for r in records]),
        ("family", [plain(r.model.family) for r in records]),
    ]


def comparison_notes(analyses: Sequence[NamedAnalysis]) -> list[str]:
    """What a reader of the comparison must know: units, other data, undefined numbers and why."""
    result = ["Entropy and total correlation are in nats; the ceiling of the entropy is ln K."]
    if len({named.record.data.fingerprint for named in analyses}) > 1:
        result.append("The analyses did not see the same data, so their numbers are not comparable one to one.")
    result += [
        f"{ABSENT} in {named.name}: {' '.join(notes(named.record))}"
        for named in analyses
        if None in dataclasses.astuple(named.record.metrics)
    ]
    return result


def data_rows(record: AnalysisRecord) -> Rows:
    """How the data were used."""
    data = record.data
    kept = f" of shape {' x '.join(map(str, data.image_shape))} (height, width, channels)"
    return [
        ("Data set", f"{plain(data.path)} ({plain(data.kind)})"),
        ("Seen", plural(data.n_images, "image", "images") + kept),
        ("Rejected", f"{count(data.n_rejected)}, listed in rejected.jsonl" if data.n_rejected else "0"),
        ("Resize", "none: images were taken as they are" if data.resize is None else plain(data.resize)),
        ("Fingerprint", plain(data.fingerprint)),
    ]


def provenance_rows(record: AnalysisRecord) -> Rows:
    """What made the record: hashes, hyperparameters, versions, seconds."""
    model, latents = record.model, record.latents
    return [
        ("Encoder", plain(model.path)),
        ("Encoder SHA-256", plain(model.sha256)),
        ("Execution provider", plain(model.provider)),
        *((f"Hyperparameter {name}", text) for name, text in flat(dict(model.hyperparameters))),
        ("Latent file", f"{plain(latents.file)}, dimensions {indices(latents.dimensions)}"),
        ("Latent file SHA-256", plain(latents.sha256)),
        *((f"Version of {name}", text) for name, text in flat(dict(record.versions))),
        *((f"Timing {plain(name)}", number(value)) for name, value in record.timings.items()),
    ]


def _nats(value: float | None) -> str:
    return ABSENT if value is None else f"{number(value)} nats"


def _other(rule: Selection, chosen: Selection) -> str:
    differing = [k for k, (a, b) in enumerate(zip(rule.informative, chosen.informative, strict=True)) if a != b]
    agreement = f"disagrees on {indices(differing)}" if differing else "the same dimensions"
    return f"{rule_text(rule)}: {rule.count} informative, {agreement}"
