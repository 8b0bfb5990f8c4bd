"""A bar or a histogram a dimension: its information with the interval, p over the images, bits against entropy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ngvae_tools.reporting import facts, rules
from ngvae_tools.reporting.drawing import Cell, Drawing
from ngvae_tools.reporting.svg import COLOURS, FAINT, INK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ngvae_tools.record import AnalysisRecord, DimensionStatistics, LatentsInfo

_NAMED = 40  # bars that are wide enough for a number below each

_INFORMATIVE: dict[str, Any] = {"facecolor": COLOURS[0], "edgecolor": COLOURS[0]}

_OTHER: dict[str, Any] = {"facecolor": "white", "edgecolor": FAINT}


def information_drawing(record: AnalysisRecord) -> Drawing | None:
    """I(x; z_k) of each dimension, most first, with its bootstrap interval; None where it is not defined."""
    rows = [row for row in record.dimensions if row.information is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: (-(row.information or 0.0), row.index))
    if any("information" in row.intervals for row in rows):
        reach = f"the {rules.confidence(record)} bootstrap interval"
    else:
        reach = "one standard error to either side"
    return Drawing(
        name="information",
        label="Information of each dimension with its interval",
        caption=(
            f"Information I(x; z_k) of each dimension in nats, the most first; the line on a bar is {reach}. Filled "
            f"bars are the informative dimensions, where {rules.rule_sentence(record.selection)}; hollow ones the "
            "others."
        ),
        heads=("dimension", "informative", "information_nats", "standard_error", "low", "high"),
        rows=lambda: (
            (row.index, row.informative, row.information, row.information_error, *_ends(row)) for row in rows
        ),
        draw=lambda: _information_figure(rows),
    )


def _ends(row: DimensionStatistics) -> tuple[float | None, float | None]:
    return row.intervals.get("information", (None, None))


def _information_figure(rows: Sequence[DimensionStatistics]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for wanted, look, label in ((True, _INFORMATIVE, "informative"), (False, _OTHER, "uninformative")):
        bars = [(place, row.information or 0.0) for place, row in enumerate(rows) if row.informative is wanted]
        if bars:
            axes.bar([x for x, _ in bars], [y for _, y in bars], width=0.72, linewidth=0.9, label=label, **look)
    for place, row in enumerate(rows):
        low, high = _ends(row)
        if low is None and row.information is not None and row.information_error is not None:
            low, high = row.information - row.information_error, row.information + row.information_error
        if low is not None and high is not None:
            axes.plot([place, place], [low, high], color=INK, linewidth=1.0, marker="_", markersize=4)
    _dimension_axis(axes, [row.index for row in rows], "dimensions, most information first")
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_ylabel("information, nats")
    axes.legend(frameon=False)
    return figure


def storage_drawing(latents: LatentsInfo) -> Drawing | None:
    """Bits that a value of each kept dimension takes, against the entropy of its codes; None for float32."""
    entropy = latents.entropy_bits
    if entropy is None or not latents.bits:
        return None
    return Drawing(
        name="storage",
        label="Bits that a value of each kept dimension takes, against the entropy of its codes",
        caption=(
            "Bits that a value of each kept dimension takes in the latent file (bars), against the Shannon entropy of "
            "its codes (lines), which no code of single values goes below."
        ),
        heads=("dimension", "bits", "entropy_bits", "max_error", "mean_squared_error"),
        rows=lambda: zip(
            latents.dimensions, latents.bits, entropy, latents.max_error, latents.mean_squared_error, strict=True
        ),
        draw=lambda: _storage_figure(latents.dimensions, latents.bits, entropy),
    )


def _storage_figure(dimensions: Sequence[int], bits: Sequence[float], entropy: Sequence[float]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(7.2, 2.4 + 0.42 * len(bits)), 3.0), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(bits))
    axes.bar(places, bits, width=0.72, label="stored", facecolor=COLOURS[0], alpha=0.75)
    ends = [(place - 0.42, place + 0.42) for place in places]
    axes.hlines(
        entropy, [low for low, _ in ends], [high for _, high in ends], color=INK, linewidth=1.6, label="entropy"
    )
    _dimension_axis(axes, dimensions, "dimensions, in the order of their columns")
    axes.set_ylabel("bits a value")
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def _dimension_axis(axes: Axes, dimensions: Sequence[int], unnamed: str) -> None:
    named = len(dimensions) <= _NAMED
    axes.set_xticks(range(len(dimensions)) if named else [], [str(k) for k in dimensions] if named else [])
    axes.tick_params(axis="x", length=0, labelsize=9 if len(dimensions) <= 20 else 7)
    axes.set_xlim(-0.7, len(dimensions) - 0.3)
    axes.set_xlabel("dimension" if named else unnamed)
    axes.grid(axis="y", alpha=0.35, linewidth=0.6)


def p_histograms_drawing(record: AnalysisRecord) -> Drawing | None:
    """The histogram of p over the images of each dimension, informative ones first; None without p."""
    rows = [row for row in facts.ordered(record) if row.p_histogram is not None]
    if not rows:
        return None
    return Drawing(
        name="p-histograms",
        label="Histogram of p over images of each dimension",
        caption=(
            "How p of each dimension is spread over the images, from 0 (informative) to 1; the number is the "
            "dimension, each histogram has the height of its fullest bin. Filled: informative dimensions."
        ),
        heads=("dimension", "informative", "p_low", "p_high", "images"),
        rows=lambda: (cells for row in rows for cells in _bins(row)),
        draw=lambda: _p_histograms_figure(rows),
    )


def _bins(row: DimensionStatistics) -> Iterator[tuple[Cell, ...]]:
    counts = row.p_histogram or ()
    for i, images in enumerate(counts):
        yield row.index, row.informative, i / len(counts), (i + 1) / len(counts), images


def _p_histograms_figure(rows: Sequence[DimensionStatistics]) -> Figure:
    """Rows of histograms in one to four columns; in one axes a column, which is quick for any number of them."""
    from matplotlib.figure import Figure

    columns = min(4, math.ceil(len(rows) / 5))
    lines = math.ceil(len(rows) / columns)
    height, width = 0.62 + lines * (0.42 if lines <= 16 else 0.24), 0.45 + 1.55 * columns
    figure = Figure(figsize=(width, height))
    for column in range(columns):
        left, room = 0.7 + 1.55 * column, 1.2
        axes = figure.add_axes((left / width, 0.5 / height, room / width, 1 - 0.56 / height))
        shown = rows[column * lines : (column + 1) * lines]
        for place, row in enumerate(shown):
            counts = row.p_histogram or ()
            top = max(counts) or 1
            base = lines - 1 - place
            look = _INFORMATIVE if row.informative else _OTHER
            # A bin with a single image is still seen.
            heights = [base + (max(0.86 * n / top, 0.05) if n else 0.0) for n in counts]
            edges = [i / len(counts) for i in range(len(counts) + 1)]
            axes.stairs(heights, edges, baseline=base, fill=True, linewidth=0.7, **look)
            axes.plot([0, 1], [base, base], color=FAINT, linewidth=0.6)
        axes.set_ylim(-0.05, lines)
        axes.set_xlim(-0.02, 1.02)
        axes.set_yticks([lines - 1 - place + 0.3 for place in range(len(shown))], [str(row.index) for row in shown])
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.tick_params(axis="y", length=0, labelsize=9 if lines <= 16 else 7)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("p")
    figure.text(0.02, 0.5, "dimension", rotation="vertical", va="center", ha="left", fontsize=10)
    return figure
