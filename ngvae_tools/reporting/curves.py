"""Curves as SVG text: how each count hangs on its threshold, and what dropping dimensions costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ngvae_tools.reporting import rules
from ngvae_tools.reporting.drawing import Cell, Drawing, for_page
from ngvae_tools.reporting.svg import COLOURS, INK
from ngvae_tools.reporting.words import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ngvae_tools.record import AnalysisRecord, Selection, Truncation, TruncationCurve

_COLUMNS = 3

_DECADES = 1e6  # an axis reaches no farther from the threshold, in times of it

THRESHOLDS_CAPTION = (
    "Number of informative dimensions at every threshold of each rule that has one; the dashed line is the threshold "
    "that was used. A count that lies on a long level stretch does not hang on the choice."
)

TRUNCATION_CAPTION = (
    "Mean squared error per value of an image in [0, 1] against the number of dimensions kept, the others held at "
    "their mean; the band is one standard error over images, the circle marks the knee."
)


def count_over_threshold(record: AnalysisRecord) -> str:
    """A panel a rule: the count as a step curve over the threshold, as SVG.

    Returns:
        SVG text; empty where no rule has a threshold to move.
    """
    return for_page(thresholds_drawing(record))


def thresholds_drawing(record: AnalysisRecord) -> Drawing | None:
    """The figure of `count_over_threshold`; None where no rule has a threshold to move.

    Its numbers are the scores of each rule from the lowest up, and the count at a threshold just above each.
    """
    shown = [rule for rule in rules.rules_of(record) if rules.plateau(rule) is not None]
    if not shown:
        return None
    return Drawing(
        name="thresholds",
        label="Number of informative dimensions over the threshold of each rule",
        caption=THRESHOLDS_CAPTION,
        heads=("rule", "keeps", "threshold", "dimension", "score", "informative", "count_just_above"),
        rows=lambda: (row for rule in shown for row in _scores(rule)),
        draw=lambda: _thresholds_figure(shown),
    )


def _scores(rule: Selection) -> Iterator[tuple[Cell, ...]]:
    for k in sorted(range(len(rule.score)), key=lambda k: (rule.score[k], k)):
        below = sum(score <= rule.score[k] for score in rule.score)
        beyond = below if rule.keeps == "below" else len(rule.score) - below
        yield plain(rule.rule), rule.keeps, rule.threshold, k, rule.score[k], rule.informative[k], beyond


def _thresholds_figure(shown: Sequence[Selection]) -> Figure:
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    width, height = 2.3 * columns + 0.3, 2.2 * lines
    figure = Figure(figsize=(width, height))
    for place, rule in enumerate(shown):
        line, column = divmod(place, columns)
        left, bottom = 0.6 + 2.3 * column, height - 2.2 * (line + 1) + 0.4
        # Places of our own: a layout engine would take most of the page's time.
        axes = figure.add_axes((left / width, bottom / height, 1.85 / width, 1.5 / height))
        _steps(axes, rule)
        if column == 0:
            axes.set_ylabel("count")
    return figure


def error_over_dimensions(truncation: Truncation) -> str:
    """Reconstruction error against the dimensions kept, in both orders, knees marked, as SVG."""
    return for_page(truncation_drawing(truncation))


def truncation_drawing(truncation: Truncation) -> Drawing:
    """The figure of `error_over_dimensions`; a row of its numbers names the dimension that was kept last."""
    curves = [("relevance", truncation.by_relevance)]
    if truncation.by_information is not None:
        curves.append(("information", truncation.by_information))
    return Drawing(
        name="truncation",
        label="Reconstruction error against the number of dimensions kept",
        caption=TRUNCATION_CAPTION,
        heads=("order", "kept", "dimension", "mean_squared_error", "standard_error", "knee"),
        rows=lambda: (row for order, curve in curves for row in _costs(order, curve)),
        draw=lambda: _truncation_figure(truncation),
    )


def _costs(order: str, curve: TruncationCurve) -> Iterator[tuple[Cell, ...]]:
    errors = [None] * len(curve.error) if curve.standard_error is None else curve.standard_error
    for kept, (error, spread) in enumerate(zip(curve.error, errors, strict=True)):
        yield order, kept, curve.order[kept - 1] if kept else None, error, spread, kept == curve.knee


def _truncation_figure(truncation: Truncation) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    _curve(axes, truncation.by_relevance, "in order of relevance", COLOURS[0], "solid")
    if truncation.by_information is not None:
        _curve(axes, truncation.by_information, "in order of information", COLOURS[1], "dashed")
    axes.set_xlabel("dimensions kept")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("mean squared error")
    axes.grid(axis="y", alpha=0.35, linewidth=0.6)
    axes.legend(frameon=False)
    return figure


def _steps(axes: Axes, rule: Selection) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high, logarithmic = _extent(rule)
    scores = sorted(min(max(score, low), high) for score in rule.score)
    # Up to a score, that score is not below; from just above it, it is.
    below = list(range(len(scores) + 1))
    counts = below if rule.keeps == "below" else below[::-1]
    if logarithmic:
        _powers(axes)
    axes.set_xlim(low, high)
    axes.set_ylim(-0.04 * len(scores), 1.04 * len(scores))
    axes.stairs(counts, [low, *scores, high], baseline=None, color=COLOURS[0], linewidth=1.6)
    axes.axvline(rule.threshold, color=INK, linestyle="dashed", linewidth=0.9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    axes.tick_params(labelsize=8)
    axes.set_title(f"{rules.score_name(rule.rule)}: {rule.count}", fontsize=9)
    axes.grid(axis="y", alpha=0.35, linewidth=0.6)


def _extent(rule: Selection) -> tuple[float, float, bool]:
    """Ends of the axis, and whether it is logarithmic; scores far out, such as zeros, lie at its ends."""
    edges = [*rule.score, rule.threshold]
    if rule.rule != "p" and rule.threshold > 0:
        inside = [edge for edge in edges if 1 / _DECADES < edge / rule.threshold < _DECADES]
        if max(inside) > 50 * min(inside):
            return min(inside) / 2, max(inside) * 2, True
        edges = [edge for edge in edges if abs(edge) < _DECADES * rule.threshold]
    room = 0.05 * (max(edges) - min(edges)) or 1.0
    return min(edges) - room, max(edges) + room, False


def _powers(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=4))
    # Powers of ten would be written in matplotlib's formula language, which the figures do not use.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, curve: TruncationCurve, label: str, colour: str, line: str) -> None:
    kept = range(len(curve.error))
    named = label if curve.knee is None else f"{label}, knee at {curve.knee}"
    look: dict[str, Any] = {"color": colour, "linestyle": line, "label": named}
    axes.plot(kept, curve.error, marker="." if len(kept) <= 60 else "", **look)
    if curve.standard_error is not None:
        ends = [(e - s, e + s) for e, s in zip(curve.error, curve.standard_error, strict=True)]
        axes.fill_between(
            kept, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.25, linewidth=0
        )
    if curve.knee is not None:
        # One ring around the other where both curves have the same knee.
        size = 11 if line == "solid" else 15
        ring: dict[str, Any] = {"marker": "o", "markersize": size, "markerfacecolor": "none", "linestyle": "none"}
        axes.plot([curve.knee], [curve.error[curve.knee]], markeredgecolor=colour, **ring)
