"""How strongly the dimensions of several models match, a row every two models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngvae_tools.analysis.stability import FOUND
from ngvae_tools.reporting.drawing import Drawing
from ngvae_tools.reporting.svg import COLOURS, INK
from ngvae_tools.reporting.words import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from ngvae_tools.analysis.stability import PairStability, Stability


def stability_drawing(stability: Stability | None) -> Drawing | None:
    """Absolute correlation of every matched pair of dimensions and UDR; None where no two models could be matched."""
    pairs = [pair for pair in (() if stability is None else stability.pairs) if pair.matches]
    if not pairs:
        return None
    return Drawing(
        name="stability",
        label="Correlation of the matched dimensions of every two models",
        caption=(
            "Every two models: a circle a matched pair of their informative dimensions at the absolute correlation of "
            f"their posterior means over the same images, filled from {FOUND:g} on, where a dimension counts as found "
            "again; the diamond is UDR, the cross what UDR is by chance."
        ),
        heads=("model_a", "model_b", "images", "dimension_a", "dimension_b", "correlation", "udr", "udr_by_chance"),
        rows=lambda: (
            (plain(p.a), plain(p.b), p.n_images, match.a, match.b, match.correlation, p.udr, p.udr_chance)
            for p in pairs
            for match in p.matches
        ),
        draw=lambda: _figure(pairs),
    )


def _figure(pairs: Sequence[PairStability]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.3 + 0.4 * len(pairs)), layout="constrained")
    axes = figure.add_subplot()
    common: dict[str, Any] = {"linestyle": "none", "clip_on": False, "zorder": 3}
    found = [(abs(m.correlation), row) for row, pair in enumerate(pairs) for m in pair.matches]
    for fill, label, wanted in (("full", "found again", True), ("none", "not found again", False)):
        points = [(x, row) for x, row in found if (x >= FOUND) is wanted]
        look: dict[str, Any] = {"marker": "o", "color": COLOURS[0], "alpha": 0.75, "fillstyle": fill, "markersize": 6}
        if points:
            axes.plot([x for x, _ in points], [row for _, row in points], label=label, **look, **common)
    scores = (("udr", "UDR", "D", 7), ("udr_chance", "UDR by chance", "x", 6))
    for name, label, marker, size in scores:
        marks = [(getattr(pair, name), row + 0.22) for row, pair in enumerate(pairs) if getattr(pair, name) is not None]
        look = {"marker": marker, "markersize": size, "color": INK, "fillstyle": "none"}
        if marks:
            axes.plot([x for x, _ in marks], [row for _, row in marks], label=label, **look, **common)
    axes.axvline(FOUND, color=INK, linestyle="dashed", linewidth=0.9)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.set_yticks(range(len(pairs)), [_short(pair) for pair in pairs])
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.set_xlabel("absolute correlation, or UDR")
    axes.grid(axis="x", alpha=0.35, linewidth=0.6)
    figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    return figure


def _short(pair: PairStability) -> str:
    names = (plain(name) for name in (pair.a, pair.b))
    return ", ".join(name if len(name) <= 18 else f"{name[:17]}…" for name in names)
