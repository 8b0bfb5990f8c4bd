"""Views for a terminal of 80 columns; rich is imported where one is made, matplotlib and jinja2 never."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.reporting import facts, progress
from ngvae_tools.reporting.comparison import comparison_table
from ngvae_tools.reporting.sections import FOLD_ABOVE, analysis_view, verdict
from ngvae_tools.reporting.stability import (
    stability_headline,
    stability_matches,
    stability_notes,
    stability_rows,
    stability_tables,
)
from ngvae_tools.reporting.sweep_view import sweep_view
from ngvae_tools.reporting.sweep_words import headline as sweep_headline
from ngvae_tools.reporting.tables import MARK, abreast, add, extent, pairs, paragraph, table, title
from ngvae_tools.reporting.words import folded, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ngvae_tools.analysis.stability import Stability
    from ngvae_tools.reporting.sources import NamedRun, Sources

_NAME = 20
"""Characters in a line of a model's name, or of two."""

_LISTED = 3
"""Pairs of models whose matched dimensions are listed."""


def render(sources: Sources, width: int | None = None, *, every: bool = False, samples: bool = False) -> RenderableType:
    """One analysis in full; several as a comparison, their stability and what limits each; then the training runs.

    Args:
        sources: Analyses and runs.
        width: Columns to fit; None takes the console's.
        every: Show several analyses in full too, a row for each dimension however many there are, and every
            statistic of it.
        samples: Show covariance metrics of samples of the posterior too.
    """
    from rich.console import Group
    from rich.constrain import Constrain

    several = len(sources.analyses) > 1
    parts: list[RenderableType] = [paragraph(sentence) for sentence in (*sources.skipped, *sources.stale)]
    if several:
        parts += [title("Comparison (the paper's Table I first)"), comparison_table(sources)]
    if sources.stability is not None:
        parts.append(stability_view(sources.stability, every=every))
    for named in sources.analyses:
        parts.append(title(f"{named.name}: {facts.headline(named.record)}"))
        if several and not every:
            parts.append(verdict(named.record, brief=True))
        else:
            parts.append(analysis_view(named.record, every=every, samples=samples))
    if several and not every:
        parts.append(paragraph("\n--every shows each analysis in full."))
    parts += [run_view(run, every=every) for run in sources.runs]
    parts += [sweep_view(named.record, named.name) for named in sources.sweeps]
    return Constrain(Group(*parts), width)


def headlines(sources: Sources) -> RenderableType:
    """A line for each analysis, for all together, and for each training run."""
    from rich.console import Group

    lines = list(sources.stale)
    lines += [f"{plain(named.name)}: {facts.headline(named.record)}" for named in sources.analyses]
    if sources.stability is not None:
        lines.append(stability_headline(sources.stability))
    lines += [f"{plain(run.name)}: training run, {progress.state(run)}" for run in sources.runs]
    lines += [f"{plain(named.name)}: sweep. {plain(sweep_headline(named.record))}" for named in sources.sweeps]
    return Group(*(paragraph(line) for line in lines))


def stability_view(found: Stability, *, every: bool = False) -> RenderableType:
    """Whether several models keep the same dimensions: the spread of the count, then who matches whom.

    Args:
        found: What several models say together.
        every: List the matched dimensions of every pair, however many pairs there are.
    """
    from rich.console import Group

    parts: list[RenderableType] = [title(stability_headline(found)), pairs(stability_rows(found))]
    for text in stability_tables(found):
        shown = table(text.heads, left=1, text=text.text, padding=(0, 1, 0, 0))
        for name, *cells in text.rows:
            add(shown, folded(name, _NAME), *cells)
        parts += [title(text.title), shown]
    if every or len(found.pairs) <= _LISTED:
        for names, matches in stability_matches(found):
            parts += [title(f"Matched dimensions of {names} (correlation)"), abreast(matches)]
    else:
        parts.append(paragraph("--every lists the matched dimensions of each pair."))
    return Group(*parts, *(paragraph(note) for note in ("", *stability_notes(found))))


def run_view(run: NamedRun, *, every: bool = False) -> RenderableType:
    """A training run: its last epoch in numbers (nats), and p of each dimension over the epochs (Fig. 3)."""
    from rich.console import Group

    head = title(f"{run.name}: training run, {progress.state(run)}")
    notes = [paragraph(f"Note: {note}") for note in progress.run_notes(run)]
    epochs = run.record.epochs
    if not epochs:
        return Group(head, paragraph("No epoch has finished yet."), *notes)
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
    others = len(shown) - len(chosen)
    folded = others if len(shown) > FOLD_ABOVE and others > 1 and not every else 0
    for k in shown[: len(shown) - folded]:
        history = [progress.scores(epoch)[k] for epoch in epochs]
        add(bars, MARK if k in chosen else "", str(k), progress.bar(history, top), f"{history[-1]:.3f}")
    if folded:
        rest = extent(progress.scores(last)[k] for k in range(len(shown)) if k not in chosen)
        add(bars, "", f"{folded} others", "", rest)
    return Group(
        head, figures, paragraph(""), pairs(progress.epoch_rows(run)), *notes, paragraph(f"\n{legend}\n"), bars
    )
