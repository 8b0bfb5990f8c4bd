"""The sections of one analysis for a terminal of 80 columns; rich is imported where one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngvae_tools.analysis.indices import indices
from ngvae_tools.reporting import columns, costs, facts, known, metrics, rules
from ngvae_tools.reporting.histogram import WIDTH, blocks
from ngvae_tools.reporting.tables import MARK, add, pairs, paragraph, table, title
from ngvae_tools.reporting.words import ABSENT, plain, plural, span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from ngvae_tools.record import AnalysisRecord, DimensionStatistics, Supervised, Truncation

FOLD_ABOVE = 40
"""Number of dimensions above which the uninformative ones become one row."""

_FACTORS = 5
"""Factors that fit beside each other."""

_TIGHT = (0, 1, 0, 0)


def analysis_view(record: AnalysisRecord, *, every: bool = False, samples: bool = False) -> RenderableType:
    """The verdict and what limits it, then where the rules agree, then every dimension, then what else was measured.

    Args:
        record: The analysis.
        every: Show every dimension and every statistic of it.
        samples: Show covariance metrics of samples of the posterior too.
    """
    from rich.console import Group

    parts: list[RenderableType] = [verdict(record)]
    if len(rules.rules_of(record)) > 1:
        parts += [title("Where the rules agree"), agreement_table(record, every=every)]
    parts += [title("Dimensions"), dimension_table(record, every=every)]
    parts += [paragraph(sentence) for sentence in (*_left_out(record, every=every), *columns.legend(record))]
    if every:
        parts += [paragraph(""), statistics_table(record)]
        if any(row.intervals for row in record.dimensions):
            parts += [title(f"{rules.confidence(record)} intervals"), interval_table(record)]
    parts += [title("Covariance"), metric_table(record, samples=samples)]
    if record.truncation is not None:
        parts += [title("What dropping dimensions costs"), truncation_view(record.truncation, every=every)]
    if record.supervised is not None:
        parts += [title("Against known factors"), supervised_view(record.supervised, every=every)]
    return Group(*parts, title("What was analysed"), pairs(facts.about_rows(record)))


def verdict(record: AnalysisRecord, *, brief: bool = False) -> RenderableType:
    """The verdict and how sure it is, a label and a value a line, then the notes as sentences.

    Args:
        record: The analysis.
        brief: Leave out its rule and threshold.
    """
    from rich.console import Group

    rows = facts.brief_rows(record) if brief else facts.verdict_rows(record)
    return Group(pairs(rows), *(paragraph(f"Note: {note}") for note in facts.notes(record)))


def agreement_table(record: AnalysisRecord, *, every: bool = False) -> Table:
    """A column a rule: which dimensions it marks, how many, and at which threshold.

    Dimensions of which all rules say the same share a row, unless `every` is set.
    """
    chosen = rules.rules_of(record)
    shown = table(["dimensions", *(rules.head(rule) for rule in chosen)], left=1, padding=_TIGHT)
    groups = rules.patterns(record)
    if every:
        groups = sorted(([k], marks) for ks, marks in groups for k in ks)
    for place, (ks, marks) in enumerate(groups):
        cells = (MARK if mark else "·" for mark in marks)
        add(shown, indices(ks), *cells, end_section=place == len(groups) - 1)
    add(shown, "count", *(str(rule.count) for rule in chosen), style="bold")
    if any(rule.count_interval is not None for rule in chosen):
        label = f"{rules.confidence(record)} interval"
        add(shown, label, *(rules.count_span(rule).replace(" to ", "-") for rule in chosen))
    add(shown, "threshold", *(rules.threshold_text(rule).replace(" ", "\n") for rule in chosen))
    return shown


def dimension_table(record: AnalysisRecord, *, every: bool = False) -> Table:
    """A row a dimension, informative ones first and marked `*`.

    Args:
        record: The analysis.
        every: Show every row; else, above `FOLD_ABOVE` dimensions, the uninformative ones become two rows, the least
            and the most of each statistic.
    """
    shown = columns.first(record)
    bars = any(row.p_histogram is not None for row in record.dimensions)
    heads = [column.short for column in shown]
    if bars:
        heads.insert(1, "p over\nimages".ljust(WIDTH))
    result = table(["", "dim.", *heads], left=2, padding=_TIGHT)
    folded = [] if every else _foldable(record)
    for row in facts.ordered(record):
        if row not in folded:
            cells = [column.text(row) for column in shown]
            if bars:
                cells.insert(1, blocks(row.p_histogram))
            style = "bold" if row.informative else ""
            add(result, MARK if row.informative else "", str(row.index), *cells, style=style)
    for label, pick in (("min", min), ("max", max)) if folded else ():
        cells = [_extreme(column, folded, pick) for column in shown]
        if bars:
            present = [row.p_histogram for row in folded if row.p_histogram is not None]
            together = [sum(bins) for bins in zip(*present, strict=True)]
            cells.insert(1, blocks(together) if label == "min" else "")
        add(result, "", label, *cells)
    return result


def statistics_table(record: AnalysisRecord) -> Table:
    """The statistics that `dimension_table` has no room for, a row a dimension."""
    shown = columns.more(record)
    result = table(["dim.", *(column.short for column in shown)], left=1, padding=_TIGHT)
    for row in facts.ordered(record):
        cells = [column.text(row).replace(" to ", " to\n") for column in shown]
        add(result, str(row.index), *cells, style="bold" if row.informative else "")
    return result


def interval_table(record: AnalysisRecord) -> Table:
    """Bootstrap intervals of the score of the record's rule and of the statistics a reader asks for first."""
    names = {"p_mean": "mean p", "posterior_variance": "posterior\nvariance", "information": "information,\nnats"}
    names |= {"rate": "rate, nats", "mu_variance": "variance\nof mu"}
    present = [name for name in names if any(name in row.intervals for row in record.dimensions)]
    result = table(["dim.", *(names[name] for name in present)], left=1, padding=_TIGHT)
    for row in facts.ordered(record):
        cells = [span(row.intervals.get(name)).replace(" to ", " to\n") for name in present]
        add(result, str(row.index), *cells, style="bold" if row.informative else "")
    return result


def metric_table(record: AnalysisRecord, *, samples: bool = False) -> Table:
    """Numbers of the covariance, of the means and where asked for of samples of the posterior."""
    rows = metrics.metric_rows(record, samples=samples)
    heads = ("of the means", "of samples")[: len(rows[0][1])]
    result = table(["", *heads], left=1)
    for label, values in rows:
        add(result, label, *values)
    return result


def truncation_view(truncation: Truncation, *, every: bool = False) -> RenderableType:
    """The error for each number of dimensions kept, and what each dimension alone does."""
    from rich.console import Group

    shown = table(costs.SHORT_HEADS, left=1, padding=_TIGHT)
    rows = costs.rows(truncation)
    few = max(truncation.by_relevance.knee or 0, 10) + 3
    fold = len(rows) > FOLD_ABOVE and few < len(rows) - 2 and not every
    for row in [*rows[:few], *rows[-1:]] if fold else rows:
        add(shown, *row)
    parts: list[RenderableType] = [shown]
    if fold:
        more = plural(len(rows) - few - 1, "row", "rows")
        parts.append(paragraph(f"{more} left out; --every shows them."))
    return Group(*parts, paragraph(costs.LEGEND), paragraph(costs.source(truncation)))


def supervised_view(supervised: Supervised, *, every: bool = False) -> RenderableType:
    """Every metric, then the information of each dimension on each factor, the labels, with `every` the settings."""
    from rich.console import Group

    numbers = table(["", ""], left=1)
    numbers.show_header = False
    for label, value in known.metric_rows(supervised):
        add(numbers, label, value)
    rows, left_out = known.information_rows(supervised, every=every)
    names = [factor.name for factor in supervised.factors]
    parts: list[RenderableType] = [numbers, *(paragraph(f"Note: {plain(note)}") for note in supervised.notes)]
    for start in range(0, len(names), _FACTORS):
        few = slice(start, start + _FACTORS)
        parts += [paragraph(""), _information([plain(name) for name in names[few]], rows, few)]
    if names:
        parts.append(paragraph(f"Information in nats; {MARK} the dimension with most of a factor's."))
    if left_out:
        limit = f"less than {known.FAINT_NATS:g} nat about every factor"
        parts.append(paragraph(f"Left out, {limit}: {indices(left_out)}."))
    settings = known.setting_rows(supervised) if every else []
    return Group(*parts, paragraph(""), pairs([*known.source_rows(supervised), *settings]))


def _information(names: Sequence[str], rows: list[tuple[int, list[str]]], few: slice) -> Table:
    shown = table(["dim.", *names], left=1)
    for k, cells in rows:
        add(shown, str(k), *cells[few])
    return shown


def _foldable(record: AnalysisRecord) -> list[DimensionStatistics]:
    """Uninformative dimensions where there are so many in all that those become two rows, if that is shorter."""
    rows = [row for row in record.dimensions if not row.informative]
    return rows if len(record.dimensions) > FOLD_ABOVE and len(rows) > 2 else []


def _left_out(record: AnalysisRecord, *, every: bool) -> list[str]:
    rows = [] if every else _foldable(record)
    if not rows:
        return []
    which = indices(row.index for row in rows)
    return [f"min, max: the least and the most of the {len(rows)} uninformative, {which}; --every shows each."]


def _extreme(column: columns.Column, rows: Sequence[DimensionStatistics], pick: Callable[..., Any]) -> str:
    if column is columns.TYPE:
        return str(pick((row.type for row in rows if row.type is not None), key=rules.TYPES.index, default=ABSENT))
    return column.show(pick((v for v in (column.value(row) for row in rows) if v is not None), default=None))
