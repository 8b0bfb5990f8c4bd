"""The figures of a finished cell, from its training's record and its analysis."""

from __future__ import annotations

from ngvae_tools.benchmark_record import NOT_RUN, BenchmarkCell, BenchmarkData
from ngvae_tools.errors import RecordError
from ngvae_tools.posteriors import family_of
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.run import RunRecord
from ngvae_tools.workflows.cells import Cell, CellResult

CRISP_LOW = 0.1
CRISP_ROOM = 0.05
"""A mean p is crisp below the one, or within the other of the value at which an unused dimension rests."""

NEAR = 1
"""Distance of a count to the known interval up to which it is called right."""


def cell_figures(cell: Cell, result: CellResult | None, data: BenchmarkData) -> BenchmarkCell:
    """What a cell says, or why it says nothing.

    Args:
        cell: Its options say the `model` and the `latent_dim`.
        result: None where it has not ended.
        data: The data set it belongs to.
    """
    failed = NOT_RUN if result is None else result.failed
    figures: dict[str, float] = {}
    if result is not None and failed is None:
        try:
            figures = _rival(result) if not cell.train else _trained(result.run(), result.analysis())
        except RecordError as error:
            failed = str(error)
    if "count" in figures and data.intrinsic is not None:
        figures["distance"] = interval_distance(figures["count"], data.intrinsic)
        figures["near"] = float(figures["distance"] <= NEAR)
    return BenchmarkCell(
        name=cell.name,
        data=data.name,
        model=cell.options["model"],
        latent_dim=cell.options["latent_dim"],
        seed=cell.config.seed,
        failed=failed,
        figures=figures,
    )


def interval_distance(count: float, interval: tuple[int, int]) -> float:
    """How far a count lies outside an interval; 0 within."""
    return float(max(interval[0] - count, count - interval[1], 0))


def _rival(result: CellResult) -> dict[str, float]:
    return {"count": float(result.extra["count"]), "seconds": result.seconds}


def _trained(run: RunRecord, analysis: AnalysisRecord) -> dict[str, float]:
    figures = {
        "count": float(analysis.selection.count),
        "seconds": sum(epoch.seconds for epoch in run.epochs),
        "epochs": float(len(run.epochs)),
    }
    summary = run.summary or {}
    if "relevance" in summary:
        # An ARD-VAE has a rule of its own, by which its paper counts.
        figures["count"] = float(summary["relevance"]["count"])
    held_out = summary.get("held_out")
    if held_out is not None:
        figures["mse"] = held_out["mse"]
    for name in ("entropy", "decorrelation", "decorrelation_signed"):
        _put(figures, name, getattr(analysis.metrics, name))
    if analysis.supervised is not None:
        for name in ("beta_vae", "factor_vae", "mig"):
            _put(figures, name, getattr(analysis.supervised, name))
    rules = {rule.rule: rule for rule in analysis.rules}
    if "information" in rules:
        figures["count_information"] = float(rules["information"].count)
    return figures | _of_p(analysis)


def _of_p(analysis: AnalysisRecord) -> dict[str, float]:
    """How crisp and how honest p is; nothing for families without p."""
    model = analysis.model
    rest = family_of(model.family, model.latent_dim, model.hyperparameters).rest_p
    p = [row.p_mean for row in analysis.dimensions if row.p_mean is not None]
    if rest is None or not p:
        return {}
    crisp = [value < CRISP_LOW or abs(value - rest) <= CRISP_ROOM for value in p]
    figures = {"rest_p": rest, "crisp": sum(crisp) / len(crisp)}
    rules = {rule.rule: rule.informative for rule in analysis.rules}
    if {"p", "information"} <= rules.keys():
        same = [a == b for a, b in zip(rules["p"], rules["information"], strict=True)]
        figures["agreement"] = sum(same) / len(same)
    return figures


def _put(figures: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        figures[name] = value
