"""All texts and figures of one analysis as the page's template takes them; matplotlib loads when they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngvae_tools.analysis.indices import indices
from ngvae_tools.reporting import columns, command, costs, facts, known, metrics, rules, storage
from ngvae_tools.reporting.amounts import amounts
from ngvae_tools.reporting.curves import (
    THRESHOLDS_CAPTION,
    TRUNCATION_CAPTION,
    count_over_threshold,
    error_over_dimensions,
)
from ngvae_tools.reporting.heatmap import FACTOR_CAPTION, factor_heatmap
from ngvae_tools.reporting.histogram import picture
from ngvae_tools.reporting.words import ABSENT, count, plain

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord, DimensionStatistics, Supervised, Truncation
    from ngvae_tools.reporting.sources import NamedAnalysis


_FIRST = "information", "p_mean", "mu_variance", "posterior_variance", "snr", "type"
"""Columns of the page's first table, in this order."""


def analysis_texts(named: NamedAnalysis, *, alone: bool = True) -> dict[str, Any]:
    """Everything the page says of an analysis; figures are markup of our own, in which foreign text is escaped.

    Args:
        named: The analysis.
        alone: Whether it is the only one of the page.
    """
    from markupsafe import Markup

    record = named.record
    first, more = _columns(record)
    stored = storage.rows(record)
    return {
        "name": named.name,
        "alone": alone,
        "pictures": None,
        "missing": [] if named.pictures is None else [plain(note) for note in named.pictures.notes],
        "amounts": amounts(record),
        "agreed": rules.agreement(record),
        "command": command.equivalent(record),
        "command_legend": command.LEGEND,
        "headline": facts.headline(record),
        "kept": _kept(record),
        "rule": f"A dimension is called informative where {rules.rule_sentence(record.selection)}.",
        "notes": facts.notes(record),
        "verdict": facts.verdict_rows(record),
        "about": [row for row in facts.about_rows(record) if row not in stored],
        "storage": [row for row in stored if row[0] != "Against images"],
        "ratio_heads": storage.RATIO_HEADS,
        "ratios": storage.ratio_rows(record),
        "bit_heads": storage.BIT_HEADS,
        "bits": storage.bit_rows(record),
        "agreement": _agreement(record),
        "thresholds": Markup(count_over_threshold(record)),  # noqa: S704
        "thresholds_caption": THRESHOLDS_CAPTION,
        "columns": [column.head for column in first],
        "more_columns": [column.head for column in more],
        "legend": columns.legend(record),
        "with_histogram": any(row.p_histogram is not None for row in record.dimensions),
        "intervals": rules.confidence(record) if any(row.intervals for row in record.dimensions) else "",
        "dimensions": [_dimension(record, row, first, more) for row in facts.ordered(record)],
        "metric_heads": metrics.HEADS[: 1 if record.sample_metrics is None else 2],
        "metrics": [(label, *texts) for label, texts in metrics.metric_rows(record, samples=True)],
        "truncation": None if record.truncation is None else _truncation(record.truncation),
        "supervised": None if record.supervised is None else _supervised(record.supervised),
        "data": facts.data_rows(record),
        "provenance": facts.provenance_rows(record),
        "settings": [] if record.supervised is None else known.setting_rows(record.supervised),
    }


def _kept(record: AnalysisRecord) -> str:
    chosen = record.selection
    if not chosen.count:
        return "No dimension is informative."
    text = f"{'Dimension' if chosen.count == 1 else 'Dimensions'} {indices(chosen.indices)}"
    if chosen.count_interval is None:
        return text
    return f"{text}. {rules.confidence(record)} interval of the count: {rules.count_span(chosen)}."


def _cells(shown: list[columns.Column], row: DimensionStatistics) -> list[tuple[str, str]]:
    """A text and its interval a column; without one the interval is empty."""
    return [(column.text(row), column.interval(row)) for column in shown]


def _columns(record: AnalysisRecord) -> tuple[list[columns.Column], list[columns.Column]]:
    """What the first table says of a dimension, and what the second."""
    every = [*columns.first(record), *columns.more(record)]
    first = sorted((c for c in every if c.name in _FIRST), key=lambda c: _FIRST.index(c.name))
    return first, [c for c in every if c not in first]


def _dimension(
    record: AnalysisRecord, row: DimensionStatistics, first: list[columns.Column], more: list[columns.Column]
) -> dict[str, Any]:
    from markupsafe import Markup

    bins = row.p_histogram
    label = "" if bins is None else f"Histogram of p over images, dimension {row.index}, from 0 to 1"
    return {
        "index": row.index,
        "informative": row.informative,
        "histogram": None if bins is None else Markup(picture(bins, label)),  # noqa: S704
        "cells": _cells(first, row),
        "votes": rules.votes(record, row.index),
        "more_cells": _cells(more, row),
    }


def _agreement(record: AnalysisRecord) -> dict[str, Any] | None:
    chosen = rules.rules_of(record)
    if len(chosen) < 2:
        return None
    rows = [
        (row.index, [(rules.score_text(rule, row.index), rule.informative[row.index]) for rule in chosen])
        for row in facts.ordered(record)
    ]
    counts = [f"{rule.count}" for rule in chosen]
    spans = [rules.count_span(rule) for rule in chosen]
    return {
        "heads": [rules.score_name(rule.rule) for rule in chosen],
        "rows": rows,
        "counts": counts,
        "confidence": rules.confidence(record),
        "intervals": spans if set(spans) != {ABSENT} else [],
        "thresholds": [rules.threshold_text(rule) for rule in chosen],
    }


def _truncation(truncation: Truncation) -> dict[str, Any]:
    from markupsafe import Markup

    return {
        "figure": Markup(error_over_dimensions(truncation)),  # noqa: S704
        "caption": TRUNCATION_CAPTION,
        "heads": costs.HEADS,
        "rows": costs.rows(truncation),
        "knee": f"Knee: {costs.knee_text(truncation)}.",
        "legend": costs.LEGEND,
        "source": costs.source(truncation),
    }


def _supervised(supervised: Supervised) -> dict[str, Any]:
    from markupsafe import Markup

    return {
        "metrics": known.metric_rows(supervised),
        "notes": [plain(note) for note in supervised.notes],
        "figure": Markup(factor_heatmap(supervised)),  # noqa: S704
        "caption": FACTOR_CAPTION,
        "source": known.source_rows(supervised),
        "images": count(supervised.n_images),
    }
