"""The curve of a sweep: count against sigma, the plateau shaded, intrinsic dimension and information beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngvae_tools.files import replacing, write_text
from ngvae_tools.reporting.drawing import Cell, Drawing, for_page
from ngvae_tools.reporting.svg import COLOURS, INK, style
from ngvae_tools.reporting.sweep_words import headline
from ngvae_tools.sweep_record import PNG_NAME, SVG_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ngvae_tools.sweep_record import SweepRecord, Trial

_ROOM = 1.12
"""The axis of sigma goes so much farther than the outermost levels, as a factor."""


CAPTION = (
    "Above: number of informative dimensions at each noise level, the plateau shaded, and the intrinsic dimension of "
    "the latent cloud with its 95 % interval. Below: the information of each dimension."
)


def write_figures(record: SweepRecord, folder: Path) -> None:
    """Write `sweep.svg` and `sweep.png`.

    Raises:
        OutputError: They cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    write_text(folder / SVG_NAME, sweep_svg(record))
    with style(), replacing(folder / PNG_NAME) as part:
        figure = _figure(record)
        FigureCanvasAgg(figure)
        figure.savefig(part, format="png", dpi=144, facecolor="white", metadata={"Software": None})


def sweep_svg(record: SweepRecord) -> str:
    """The figure as SVG text."""
    return for_page(sweep_drawing(record))


def sweep_drawing(record: SweepRecord) -> Drawing:
    """The figure of a sweep; a row of its numbers says what was drawn of one training."""
    return Drawing(
        name="count-over-sigma",
        label=f"Number of informative dimensions against sigma. {headline(record)}",
        caption=CAPTION,
        heads=("sigma", "seed", "stands_for_level", "quantity", "dimension", "informative", "value", "low", "high"),
        rows=lambda: (
            (level.sigma, trial.seed, i == level.best, *row)
            for level in record.levels
            for i, trial in enumerate(level.trials)
            for row in _drawn(trial, record.rule, kept=i == level.best)
        ),
        draw=lambda: _figure(record),
    )


def _drawn(trial: Trial, rule: str, *, kept: bool) -> Iterator[tuple[Cell, ...]]:
    """Counts of every training; what else is drawn only of the one that stands for its level."""
    for name in dict.fromkeys((rule, "information") if kept else (rule,)):
        if name in trial.counts:
            yield f"count by {name}", None, None, trial.counts[name], None, None
    if not kept:
        return
    if trial.two_nn is not None and trial.two_nn_interval is not None:
        yield "intrinsic dimension (TwoNN)", None, None, trial.two_nn, *trial.two_nn_interval
    for k, value in enumerate(trial.information or ()):
        yield "information, nats", k, k in trial.informative, value, None, None


def _figure(record: SweepRecord) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _counts(above, record)
    _information(below, record)
    _sigma_axis(below, record)
    handles, names = (a + b for a, b in zip(*(ax.get_legend_handles_labels() for ax in (above, below)), strict=True))
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _counts(axes: Axes, record: SweepRecord) -> None:
    from matplotlib.ticker import MaxNLocator

    shown = dict.fromkeys((record.rule, "information"))
    looks = zip(shown, (("o", "solid", "full"), ("s", "dashed", "none")), (6, 10), COLOURS, strict=False)
    for rule, (marker, line, fill), size, colour in looks:
        known = [(level.sigma, count) for level in record.levels if (count := level.count(rule)) is not None]
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "fillstyle": fill}
        look |= {"markersize": size, "zorder": 3}
        axes.plot([s for s, _ in known], [n for _, n in known], label=f"count by {rule}", **look)
    others = [
        (level.sigma, trial.counts[record.rule])
        for level in record.levels
        for i, trial in enumerate(level.trials)
        if i != level.best and record.rule in trial.counts
    ]
    if others:
        look = {"marker": "x", "linestyle": "none", "color": INK, "markersize": 6, "zorder": 4}
        axes.plot([s for s, _ in others], [n for _, n in others], label="other restarts", **look)
    _intrinsic(axes, record)
    axes.set_ylim(-0.03 * record.latent_dim, 1.16 * record.latent_dim)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.35, linewidth=0.6)
    axes.set_ylabel("dimensions")
    for plateau in record.verdicts[0].plateaus:
        axes.axvspan(plateau.low, plateau.high, facecolor=COLOURS[0], alpha=0.16, linewidth=0)
        for side in (plateau.low, plateau.high):
            axes.axvline(side, color=INK, linewidth=0.8, linestyle="dotted")
        middle = (plateau.low * plateau.high) ** 0.5
        axes.text(middle, 1.07 * record.latent_dim, f"plateau: {plateau.count}", ha="center", fontsize=10)
    axes.set_title(headline(record), loc="left")


def _intrinsic(axes: Axes, record: SweepRecord) -> None:
    """TwoNN with its interval, a little beside the level so that it hides no count."""
    known = [
        (level.sigma * 1.02, level.kept.two_nn, level.kept.two_nn_interval)
        for level in record.levels
        if level.kept is not None and level.kept.two_nn is not None and level.kept.two_nn_interval is not None
    ]
    if not known:
        return
    # The interval also spans what the estimate tends to, and may lie beside the estimate.
    reach = [[max(value - low, 0.0) for _, value, (low, _) in known], [max(h - v, 0.0) for _, v, (_, h) in known]]
    axes.errorbar(
        [sigma for sigma, _, _ in known],
        [value for _, value, _ in known],
        yerr=reach,
        color=COLOURS[2],
        marker="D",
        markersize=5,
        markerfacecolor="none",
        linestyle="dotted",
        capsize=3,
        label="intrinsic dimension (TwoNN, 95 %)",
    )


def _information(axes: Axes, record: SweepRecord) -> None:
    """A stroke a dimension at its information; thick where the rule calls it informative."""
    for wanted, width, colour, label in (
        (True, 2.4, COLOURS[0], f"informative by {record.rule}"),
        (False, 0.9, INK, "the others"),
    ):
        points = [
            (level.sigma, value)
            for level in record.levels
            if level.kept is not None and level.kept.information is not None
            for k, value in enumerate(level.kept.information)
            if (k in level.kept.informative) is wanted
        ]
        if points:
            look: dict[str, Any] = {"marker": "_", "markersize": 14, "linestyle": "none"}
            xs, ys = [x for x, _ in points], [y for _, y in points]
            axes.plot(xs, ys, color=colour, markeredgewidth=width, label=label, **look)
    axes.set_ylabel("information of each\ndimension, nats")
    axes.grid(axis="y", alpha=0.35, linewidth=0.6)


def _sigma_axis(axes: Axes, record: SweepRecord) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    sigmas = [level.sigma for level in record.levels]
    axes.set_xscale("log")
    axes.set_xlim(sigmas[0] / _ROOM, sigmas[-1] * _ROOM)
    axes.xaxis.set_major_locator(FixedLocator(sigmas))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("noise level sigma")
