"""All texts and figures of one analysis as the page's template takes them; matplotlib loads when they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngvae_tools.analysis.indices import indices
from ngvae_tools.report import columns, costs, facts, known, metrics, rules
from ngvae_tools.report.curves import (
    THRESHOLDS_CAPTION,
    TRUNCATION_CAPTION,
    count_over_threshold,
    error_over_dimensions,
)
from ngvae_tools.report.heatmap import FACTOR_CAPTION, factor_heatmap
from ngvae_tools.report.histogram import picture
from ngvae_tools.report.words import ABSENT, count, plain

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord, DimensionStatistics, Supervised, Truncation
    from ngvae_tools.report.sources import NamedAnalysis


def analysis_texts(named: NamedAnalysis) -> dict[str, Any]:
    """Everything the page says of an analysis; figures are markup of our own, in which foreign text is escaped."""
    from markupsafe import Markup

    record = named.record
    return {
        "name": named.name,
        "headline": facts.headline(record),
        "kept": _kept(record),
        "rule": f"A dimension is called informative where {rules.rule_sentence(record.selection)}.",
        "notes": facts.notes(record),
        "verdict": facts.verdict_rows(record),
        "about": facts.about_rows(record),
        "agreement": _agreement(record),
        "thresholds": Markup(count_over_threshold(record)),  # noqa: S704
        "thresholds_caption": THRESHOLDS_CAPTION,
        "columns": [column.head for column in columns.first(record)],
        "more_columns": [column.head for column in columns.more(record)],
        "legend": columns.legend(record),
        "with_histogram": any(row.p_histogram is not None for row in record.dimensions),
        "intervals": rules.confidence(record) if any(row.intervals for row in record.dimensions) else "",
        "dimensions": [_dimension(record, row) for row in facts.ordered(record)],
        "metric_heads": metrics.HEADS[: 1 if record.sample_metrics is None else 2],
        "metrics": metrics.metric_rows(record, samples=True),
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


def _dimension(record: AnalysisRecord, row: DimensionStatistics) -> dict[str, Any]:
    from markupsafe import Markup

    bins = row.p_histogram
    label = "" if bins is None else f"Histogram of p over images, dimension {row.index}, from 0 to 1"
    return {
        "index": row.index,
        "informative": row.informative,
        "histogram": None if bins is None else Markup(picture(bins, label)),  # noqa: S704
        "cells": _cells(columns.first(record), row),
        "more_cells": _cells(columns.more(record), row),
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
