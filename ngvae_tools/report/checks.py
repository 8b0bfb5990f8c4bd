"""Whether a record that parsed is also whole: shapes that fit, numbers that are numbers; stdlib only."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from ngvae_tools.errors import RecordError
from ngvae_tools.report.words import plain

if TYPE_CHECKING:
    from pathlib import Path

    from ngvae_tools.record import AnalysisRecord
    from ngvae_tools.run import EpochRecord, RunRecord


def check_analysis(path: Path, record: AnalysisRecord) -> None:
    """Refuse a record whose parts do not fit each other, so that no renderer has to.

    Raises:
        RecordError: A field has another shape than K asks for, or is no finite number.
    """
    dim = record.model.latent_dim
    numbers = [
        *(
            getattr(row, name)
            for row in record.dimensions
            for name in ("mu_mean", "posterior_variance", "posterior_entropy")
        ),
        *(number for rule in (record.selection, *record.rules) for number in (rule.threshold, *rule.score)),
        *(number for row in record.covariance or () for number in row),
        *(record.data.n_images, record.data.n_rejected, *record.data.image_shape, record.latents.bytes),
        *record.timings.values(),
    ]
    optional = [
        *(getattr(row, name) for row in record.dimensions for name in ("mu_variance", "p_mean", "p_std")),
        *dataclasses.astuple(record.metrics),
    ]
    _require(
        path,
        isinstance(dim, int) and [row.index for row in record.dimensions] == list(range(dim)),
        f"{dim} dimensions in order",
    )
    for rule in (record.selection, *record.rules):
        _require(path, len(rule.score) == dim, f"{dim} scores of rule {plain(rule.rule)}")
    if record.covariance is not None:
        _require(
            path,
            [len(row) for row in record.covariance] == [dim] * dim,
            f"a covariance of shape ({dim}, {dim})",
        )
    _require(path, all(_finite(n) for n in numbers), "finite numbers")
    _require(path, all(n is None or _finite(n) for n in optional), "finite numbers or null")


def check_run(path: Path, record: RunRecord) -> None:
    """Refuse a history whose epochs do not fit each other; losses that are not finite are allowed.

    Raises:
        RecordError: Epochs differ in their number of dimensions, or hold something else than numbers.
    """
    shapes = {
        (len(e.rate_per_dimension), len(e.posterior_variance), None if e.p is None else len(e.p)) for e in record.epochs
    }
    _require(path, len(shapes) <= 1, "the same number of dimensions in every epoch")
    _require(path, all(isinstance(n, int | float) for e in record.epochs for n in _numbers(e)), "numbers")
    _require(
        path,
        record.summary is None or isinstance(record.summary, dict),
        "a summary.json that holds an object",
    )


def _numbers(epoch: EpochRecord) -> list[Any]:
    passes = [figures for figures in (epoch.train, epoch.held_out) if figures is not None]
    return [
        *(number for figures in passes for number in dataclasses.astuple(figures)),
        *epoch.rate_per_dimension,
        *epoch.posterior_variance,
        *(epoch.p or ()),
        *(epoch.epoch, epoch.informative, epoch.learning_rate, epoch.seconds),
    ]


def _finite(number: Any) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)


def _require(path: Path, holds: bool, expected: str) -> None:
    if not holds:
        raise RecordError(
            f"the record in {plain(path)} does not fit together",
            expected=expected,
            found="something else",
            remedy="make it again with ngvae-tools; it was changed after it was written",
        )
