"""Views for a terminal of 80 columns; rich is imported where one is made, matplotlib and jinja2 never."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.report import facts, progress
from ngvae_tools.report.sections import FOLD_ABOVE, analysis_view
from ngvae_tools.report.stability import stability_headline, stability_notes, stability_rows, stability_tables
from ngvae_tools.report.tables import MARK, add, extent, pairs, paragraph, table, title
from ngvae_tools.report.words import plural

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ngvae_tools.analysis.stability import Stability
    from ngvae_tools.report.sources import NamedRun, Sources

_ABREAST = 4
"""Analyses that fit beside each other."""


def render(sources: Sources, width: int | None = None, *, every: bool = False, samples: bool = False) -> RenderableType:
    """Everything the sources hold: a comparison first where there are several analyses, then a section each.

    Args:
        sources: Analyses and runs.
        width: Columns to fit; None takes the console's.
        every: Show a row for each dimension however many there are, and every statistic of it.
        samples: Show covariance metrics of samples of the posterior too.
    """
    from rich.console import Group
    from rich.constrain import Constrain

    several = len(sources.analyses) > 1
    parts: list[RenderableType] = [paragraph(sentence) for sentence in sources.skipped]
    if several:
        parts += [title("Comparison (the paper's Table I first)"), comparison_table(sources)]
    if sources.stability is not None:
        parts.append(stability_view(sources.stability))
    for named in sources.analyses:
        parts += [
            title(f"{named.name}: {facts.headline(named.record)}"),
            analysis_view(named.record, every=every, samples=samples, fold_above=0 if several else FOLD_ABOVE),
        ]
    parts += [run_view(run, every=every) for run in sources.runs]
    return Constrain(Group(*parts), width)


def comparison_table(sources: Sources) -> RenderableType:
    """The paper's Table I: a column an analysis up to four, above four a row an analysis; more measures and notes."""
    from rich.console import Group

    analyses = sources.analyses
    rows, more = facts.comparison_rows(analyses), facts.more_comparison_rows(analyses)
    names = [named.name for named in analyses]
    notes = [paragraph(note) for note in facts.comparison_notes(analyses)]
    if len(names) <= _ABREAST:
        return Group(_beside(names, [*rows, *more]), *notes)
    heads = [
        "entropy",
        "decorr.\nabs.",
        "decorr.\nsigned",
        "total\ncorr.",
        "inform.\n(rule)",
        "K",
        "images",
        "family",
    ]
    shown = table(["analysis", *heads], left=1, padding=(0, 1, 0, 0))
    for name, *values in zip(names, *(values for _, values in rows), strict=True):
        add(shown, name, *values)
    parts: list[RenderableType] = [shown]
    for start in range(0, len(names), _ABREAST):
        few = slice(start, start + _ABREAST)
        parts += [paragraph(""), _beside(names[few], [(label, values[few]) for label, values in more])]
    return Group(*parts, *notes)


def stability_view(found: Stability) -> RenderableType:
    """Whether several models keep the same dimensions: the spread of the count, then who matches whom."""
    from rich.console import Group

    parts: list[RenderableType] = [title(stability_headline(found)), pairs(stability_rows(found))]
    for text in stability_tables(found):
        shown = table(text.heads, left=1, padding=(0, 1, 0, 0))
        for row in text.rows:
            add(shown, *row)
        parts += [paragraph(""), shown]
    return Group(*parts, *(paragraph(note) for note in stability_notes(found)))


def run_view(run: NamedRun, *, every: bool = False) -> RenderableType:
    """A training run: its last epoch in numbers (nats), and p of each dimension over the epochs (Fig. 3)."""
    from rich.console import Group

    head = title(f"{run.name}: training run, {progress.state(run)}")
    epochs = run.record.epochs
    if not epochs:
        return Group(head, paragraph("No epoch has finished yet."))
    last = epochs[-1]
    figures = table(["last epoch", "training", "held out"], left=1)
    for row in progress.figure_rows(last):
        add(figures, *row)
    name = progress.score_name(epochs)
    top = 1.0 if last.p is not None else max([1.0, *(v for e in epochs for v in progress.scores(e) if v < 1e300)])
    legend = f"{name} over epochs from 0 to {top:.3g}; {name} near 0 = informative; {MARK} informative now"
    bars = table(["", "dimension", f"{name} over epochs", "now"], left=3)
    chosen = progress.informative(last)
    shown = sorted(range(len(progress.scores(last))), key=lambda k: (k not in chosen, k))
    folded = len(shown) - len(chosen) if len(shown) > FOLD_ABOVE and not every else 0
    for k in shown[: len(shown) - folded]:
        history = [progress.scores(epoch)[k] for epoch in epochs]
        add(bars, MARK if k in chosen else "", str(k), progress.bar(history, top), f"{history[-1]:.3f}")
    if folded:
        rest = extent(progress.scores(last)[k] for k in range(len(shown)) if k not in chosen)
        add(bars, "", plural(folded, "other", "others"), "", rest)
    return Group(head, figures, paragraph(""), pairs(progress.epoch_rows(run)), paragraph(f"\n{legend}\n"), bars)


def _beside(names: list[str], rows: list[tuple[str, list[str]]]) -> RenderableType:
    shown = table(["", *names], left=1)
    for label, values in rows:
        add(shown, label, *values)
    return shown
