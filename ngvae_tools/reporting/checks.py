"""Whether a record that parsed is also whole: shapes that fit, numbers that are numbers; stdlib only."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ngvae_tools.errors import RecordError
from ngvae_tools.record import P_BINS
from ngvae_tools.reporting.fits import misfit
from ngvae_tools.reporting.words import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ngvae_tools.record import AnalysisRecord, Supervised, Truncation
    from ngvae_tools.run import EpochRecord, RunRecord
    from ngvae_tools.sweep_record import SweepRecord, Trial


def check_analysis(path: Path, record: AnalysisRecord) -> None:
    """Refuse a record whose parts do not fit each other, so that no renderer has to.

    Raises:
        RecordError: A field is not of its type, no finite number, or has another shape than K asks for.
    """
    wrong = misfit(record, type(record), "record")
    _require(path, wrong is None, f"what the format says in {plain(wrong)}")
    dim = record.model.latent_dim
    _require(path, [row.index for row in record.dimensions] == list(range(dim)), f"{dim} dimensions in order")
    for expected, holds in _shapes(record, dim):
        _require(path, holds, expected)


def check_run(path: Path, record: RunRecord) -> None:
    """Refuse a history whose epochs do not fit each other; losses that are not finite are allowed.

    Raises:
        RecordError: Epochs differ in their number of dimensions, or hold something else than numbers; or the options or
            the end of the training are not of their types.
    """
    _require(path, all(_is_number(n) for e in record.epochs for n in _numbers(e)), "numbers in every epoch")
    _require(path, all(type(n) is int for e in record.epochs for n in (e.epoch, e.informative)), "whole numbers")
    shapes = {
        (len(e.rate_per_dimension), len(e.posterior_variance), None if e.p is None else len(e.p)) for e in record.epochs
    }
    _require(path, len(shapes) <= 1, "the same number of dimensions in every epoch")
    options = record.config.get("options", {})
    _require(path, isinstance(options, dict), "a config.json whose options are an object")
    counts = (options.get("epochs"), options.get("max_epochs"))
    wrong = misfit(counts, tuple[int | None, ...], "options")
    _require(path, wrong is None, "whole numbers as epochs and max_epochs in config.json")
    _require(path, record.summary is None or _is_summary(record.summary), "a summary.json as train writes it")


def _is_summary(summary: Any) -> bool:
    if not isinstance(summary, dict) or not isinstance(summary.get("ended_by", ""), str):
        return False
    exports = summary.get("exports", {})
    return isinstance(exports, dict) and all(
        isinstance(export, dict) and _is_number(export.get("max_abs_difference")) for export in exports.values()
    )


def check_sweep(path: Path, record: SweepRecord) -> None:
    """Refuse a sweep whose parts do not fit each other.

    Raises:
        RecordError: A field is not of its type, no finite number, or has another shape than K asks for.
    """
    wrong = misfit(record, type(record), "record")
    _require(path, wrong is None, f"what the format says in {plain(wrong)}")
    sigmas = [level.sigma for level in record.levels]
    _require(path, sigmas == sorted(sigmas) and bool(sigmas) and sigmas[0] > 0, "levels in order of sigma, above 0")
    _require(path, bool(record.verdicts), "a verdict")
    for level in record.levels:
        _require(path, level.best is None or 0 <= level.best < len(level.trials), "the index of a trial as best")
        _require(path, all(_trial(trial, record.latent_dim) for trial in level.trials), "a value a dimension")


def _trial(trial: Trial, dim: int) -> bool:
    known = [values for values in (trial.p, trial.information) if values is not None]
    return all(len(values) == dim for values in known) and all(0 <= k < dim for k in trial.informative)


def _shapes(record: AnalysisRecord, dim: int) -> Iterator[tuple[str, bool]]:
    """What must hold, in words, and whether it does."""
    for rule in (record.selection, *record.rules):
        yield f"{dim} scores of rule {plain(rule.rule)}", len(rule.score) == dim
    for row in record.dimensions:
        bins = row.p_histogram
        yield f"a histogram of {P_BINS} counts", bins is None or (len(bins) == P_BINS and min(bins) >= 0)
    latents = record.latents
    yield f"kept dimensions below {dim}", all(0 <= k < dim for k in latents.dimensions)
    measured = (latents.bits, latents.entropy_bits, latents.max_error, latents.mean_squared_error)
    kept = len(latents.dimensions)
    yield f"figures of {kept} kept dimensions", all(len(row) == kept for row in measured if row is not None)
    if record.covariance is not None:
        yield f"a covariance of shape ({dim}, {dim})", [len(line) for line in record.covariance] == [dim] * dim
    if record.intrinsic_dimension is not None:
        yield f"dimensions below {dim}", all(0 <= k < dim for k in record.intrinsic_dimension.dimensions)
    if record.truncation is not None:
        yield f"truncation curves of {dim} dimensions", _truncation(record.truncation, dim)
    if record.supervised is not None:
        yield f"information of shape (factors, {dim})", _supervised(record.supervised, dim)


def _truncation(truncation: Truncation, dim: int) -> bool:
    curves = [curve for curve in (truncation.by_relevance, truncation.by_information) if curve is not None]
    alone = (truncation.relevance, truncation.effect, truncation.sensitivity)
    return all(len(values) == dim for values in alone) and all(
        sorted(curve.order) == list(range(dim))
        and len(curve.error) == dim + 1
        and (curve.standard_error is None or len(curve.standard_error) == dim + 1)
        and (curve.knee is None or 0 <= curve.knee <= dim)
        for curve in curves
    )


def _supervised(supervised: Supervised, dim: int) -> bool:
    return [len(line) for line in supervised.information] == [dim] * len(supervised.factors)


def _numbers(epoch: EpochRecord) -> list[Any]:
    """What must be a number in an epoch; None stands for a whole row that is none."""
    passes = [figures for figures in (epoch.train, epoch.held_out) if figures is not None]
    return [
        *(number for figures in passes for number in dataclasses.astuple(figures)),
        *_row(epoch.rate_per_dimension),
        *_row(epoch.posterior_variance),
        *(epoch.p or ()),
        *(epoch.epoch, epoch.informative, epoch.learning_rate, epoch.seconds),
        *(() if epoch.sigma is None else (epoch.sigma,)),
    ]


def _row(values: tuple[Any, ...] | None) -> tuple[Any, ...]:
    return (None,) if values is None else values


def _is_number(value: Any) -> bool:
    """Whether it is what JSON calls a number, and no more than a double holds; NaN and infinities pass."""
    return type(value) is float or (type(value) is int and abs(value) < 2**1023)


def _require(path: Path, holds: bool, expected: str) -> None:
    if not holds:
        raise RecordError(
            f"the record in {plain(path)} does not fit together",
            expected=expected,
            found="something else",
            remedy="make it again with ngvae-tools; it was changed after it was written",
        )
