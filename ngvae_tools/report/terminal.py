"""Tables for a terminal of 80 columns; rich is imported where a table is made, matplotlib and jinja2 never.

Text of a record is foreign: it enters as `Text`, so that no markup or control character in it is obeyed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ngvae_tools.report import facts, progress
from ngvae_tools.report.words import number, plain, plural, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from ngvae_tools.record import AnalysisRecord, DimensionStatistics
    from ngvae_tools.report.sources import NamedRun, Sources

FOLD_ABOVE = 40
"""Number of dimensions above which the uninformative ones become one row."""

MARK = "*"
"""Stands before informative dimensions, for those who see no bold type and no colour."""


def render(sources: Sources, width: int | None = None, *, every: bool = False) -> RenderableType:
    """Everything the sources hold: a comparison first where there are several analyses, then a section each.

    Args:
        sources: Analyses and runs.
        width: Columns to fit; None takes the console's.
        every: Show a row for each dimension however many there are.
    """
    from rich.console import Group
    from rich.constrain import Constrain

    several = len(sources.analyses) > 1
    parts: list[RenderableType] = [_paragraph(sentence) for sentence in sources.skipped]
    if several:
        parts += [_title("Comparison (the paper's Table I)"), comparison_table(sources)]
    for named in sources.analyses:
        headline = f"{named.name}: {facts.headline(named.record)}"
        table = dimension_table(named.record, every=every, fold_above=0 if several else FOLD_ABOVE)
        parts += [_title(headline), totals(named.record), _paragraph(""), table]
    parts += [run_view(run, every=every) for run in sources.runs]
    return Constrain(Group(*parts), width)


def dimension_table(record: AnalysisRecord, *, every: bool = False, fold_above: int = FOLD_ABOVE) -> Table:
    """A row a dimension, informative ones first and marked `*`.

    Args:
        record: The analysis.
        every: Show every row; else, above `fold_above` dimensions, the uninformative ones become one row.
        fold_above: See `every`.
    """
    with_p = any(row.p_mean is not None for row in record.dimensions)
    p_heads = ["p, mean ± std\n(near 0 =\ninformative)"] if with_p else []
    table = _table(["", "dimension", *p_heads, "posterior\nvariance", "mean\nof mu", "variance\nof mu"], left=2)
    rows = facts.ordered(record)
    fold = not every and len(rows) > fold_above
    for row in rows:
        if row.informative or not fold:
            p = [spread(row.p_mean, row.p_std)] if with_p else []
            verdict = "informative" if row.informative else "uninformative"
            numbers = [number(row.posterior_variance), number(row.mu_mean), number(row.mu_variance)]
            style = "bold" if row.informative else ""
            _add(table, MARK if row.informative else "", f"{row.index} {verdict}", *p, *numbers, style=style)
    folded = [row for row in rows if not row.informative] if fold else []
    if folded:
        columns: list[Callable[[DimensionStatistics], float | None]] = [
            *([lambda row: row.p_mean] if with_p else []),
            lambda row: row.posterior_variance,
            lambda row: row.mu_mean,
            lambda row: row.mu_variance,
        ]
        ranges = [_range(column(row) for row in folded) for column in columns]
        _add(table, "", f"{len(folded)} others, all uninformative", *ranges)
    return table


def totals(record: AnalysisRecord) -> RenderableType:
    """The analysis as a whole, a label and a value a line, then its notes as sentences."""
    from rich.console import Group

    return Group(_pairs(facts.totals_rows(record)), *(_paragraph(f"Note: {note}") for note in facts.notes(record)))


def comparison_table(sources: Sources) -> RenderableType:
    """The paper's Table I: a column an analysis up to four, above four a row an analysis; notes below."""
    from rich.console import Group

    rows = facts.comparison_rows(sources.analyses)
    names = [named.name for named in sources.analyses]
    if len(names) <= 4:
        table = _table(["", *names], left=1)
        for label, values in rows:
            _add(table, label, *values)
    else:
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
        table = _table(["analysis", *heads], left=1, padding=(0, 1, 0, 0))
        for name, *values in zip(names, *(values for _, values in rows), strict=True):
            _add(table, name, *values)
    return Group(table, *(_paragraph(note) for note in facts.comparison_notes(sources.analyses)))


def run_view(run: NamedRun, *, every: bool = False) -> RenderableType:
    """A training run: its last epoch in numbers (nats), and p of each dimension over the epochs (Fig. 3)."""
    from rich.console import Group

    title = _title(f"{run.name}: training run, {progress.state(run)}")
    epochs = run.record.epochs
    if not epochs:
        return Group(title, _paragraph("No epoch has finished yet."))
    last = epochs[-1]
    figures = _table(["last epoch", "training", "held out"], left=1)
    for row in progress.figure_rows(last):
        _add(figures, *row)
    name = progress.score_name(epochs)
    top = 1.0 if last.p is not None else max([1.0, *(v for e in epochs for v in progress.scores(e) if v < 1e300)])
    legend = f"{name} over epochs from 0 to {top:.3g}; {name} near 0 = informative; {MARK} informative now"
    bars = _table(["", "dimension", f"{name} over epochs", "now"], left=3)
    chosen = progress.informative(last)
    shown = sorted(range(len(progress.scores(last))), key=lambda k: (k not in chosen, k))
    folded = len(shown) - len(chosen) if len(shown) > FOLD_ABOVE and not every else 0
    for k in shown[: len(shown) - folded]:
        history = [progress.scores(epoch)[k] for epoch in epochs]
        _add(bars, MARK if k in chosen else "", str(k), progress.bar(history, top), f"{history[-1]:.3f}")
    if folded:
        span = _range(progress.scores(last)[k] for k in range(len(shown)) if k not in chosen)
        _add(bars, "", plural(folded, "other", "others"), "", span)
    pairs = _pairs(progress.epoch_rows(run))
    return Group(title, figures, _paragraph(""), pairs, _paragraph(f"\n{legend}\n"), bars)


def _table(
    heads: Sequence[str],
    *,
    left: int,
    padding: tuple[int, int, int, int] = (0, 1, 0, 1),
) -> Table:
    """A table whose first `left` columns are flush left."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=padding, header_style="bold")
    for place, head in enumerate(heads):
        justify: Literal["left", "right"] = "left" if place < left else "right"
        table.add_column(Text(head), justify=justify, overflow="fold")
    return table


def _add(table: Table, *cells: str, style: str = "") -> None:
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), style=style)


def _pairs(rows: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(max_width=28, overflow="fold")
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(Text(label), Text(value))
    return grid


def _title(text: str) -> RenderableType:
    from rich.text import Text

    return Text(f"\n{plain(text)}\n", style="bold", overflow="fold")


def _paragraph(text: str) -> RenderableType:
    from rich.text import Text

    return Text(text, overflow="fold")


def _range(values: Iterable[float | None]) -> str:
    present = [value for value in values if value is not None]
    return f"{number(min(present))} to\n{number(max(present))}" if present else number(None)
