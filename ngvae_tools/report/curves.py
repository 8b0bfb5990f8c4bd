"""Curves as SVG text: how each count hangs on its threshold, and what dropping dimensions costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ngvae_tools.report import rules
from ngvae_tools.report.svg import COLOURS, INK, style, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    shown = [rule for rule in rules.rules_of(record) if rules.plateau(rule) is not None]
    if not shown:
        return ""
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    with style():
        width, height = 2.9 * columns + 0.3, 2.2 * lines
        figure = Figure(figsize=(width, height))
        for place, rule in enumerate(shown):
            line, column = divmod(place, columns)
            left, bottom = 0.6 + 2.9 * column, height - 2.2 * (line + 1) + 0.4
            # Places of our own: a layout engine would take most of the page's time.
            axes = figure.add_axes((left / width, bottom / height, 2.45 / width, 1.5 / height))
            _steps(axes, rule)
            if column == 0:
                axes.set_ylabel("count")
        return svg_of(figure, "Number of informative dimensions over the threshold of each rule")


def error_over_dimensions(truncation: Truncation) -> str:
    """Reconstruction error against the dimensions kept, in both orders, knees marked, as SVG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with style():
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
        return svg_of(figure, "Reconstruction error against the number of dimensions kept")


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
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    # Powers of ten would be written in matplotlib's formula language, which the figures do not use.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _curve(axes: Axes, curve: TruncationCurve, label: str, colour: str, line: str) -> None:
    kept = range(len(curve.error))
    look: dict[str, Any] = {"color": colour, "linestyle": line, "label": label}
    axes.plot(kept, curve.error, marker="." if len(kept) <= 60 else "", **look)
    if curve.standard_error is not None:
        ends = [(e - s, e + s) for e, s in zip(curve.error, curve.standard_error, strict=True)]
        axes.fill_between(
            kept, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.25, linewidth=0
        )
    if curve.knee is not None:
        # Two curves with one knee share its number.
        place = (6, 8) if line == "solid" else (-14, 8)
        ring: dict[str, Any] = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "linestyle": "none"}
        axes.plot([curve.knee], [curve.error[curve.knee]], markeredgecolor=colour, **ring)
        axes.annotate(
            str(curve.knee),
            (curve.knee, curve.error[curve.knee]),
            xytext=place,
            textcoords="offset points",
            color=colour,
            fontsize=9,
        )
