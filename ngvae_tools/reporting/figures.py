"""Figures as SVG text: the covariance (Fig. 4), p over epochs (Fig. 3) and the losses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ngvae_tools.reporting import progress
from ngvae_tools.reporting.drawing import Drawing, for_page
from ngvae_tools.reporting.heatmap import correlation_heatmap, covariance_heatmap
from ngvae_tools.reporting.labels import clusters, placed
from ngvae_tools.reporting.svg import COLOURS, FAINT, INK
from ngvae_tools.reporting.words import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ngvae_tools.reporting.sources import NamedRun
    from ngvae_tools.run import EpochRecord

__all__ = ["correlation_heatmap", "covariance_heatmap", "loss_over_epochs", "p_over_epochs"]

# Dashes tell apart the ninth line and those after.
_DASHES = ("solid", "dashed", "dotted", "dashdot")

_PARTS = ("distortion", "rate")

_GAP = 0.055  # height of a line of labels, as a share of the axes
_MOST = 7  # indices that fit in a line of labels


def p_over_epochs(run: NamedRun) -> str:
    """Mean p of each dimension over the epochs (near 0 = informative), as SVG text (Fig. 3).

    A Gaussian model has its posterior variance there. Informative dimensions are coloured, the
    others grey; numbers at the right are the dimensions.

    Returns:
        SVG text; empty where the run has no epoch.
    """
    return for_page(p_drawing(run))


def p_drawing(run: NamedRun) -> Drawing | None:
    """The figure of `p_over_epochs`; None where the run has no epoch."""
    epochs = run.record.epochs
    if not epochs:
        return None
    score = progress.score_name(epochs)
    return Drawing(
        name="p-over-epochs" if score == "p" else "variance-over-epochs",
        label=f"mean {score} (near 0 = informative) of each dimension over epochs of {plain(run.name)}",
        caption=(
            f"Mean {score} of each dimension over the epochs of the training; near 0 means informative. Dimensions "
            "that are informative after the last epoch are coloured, the others grey; the numbers at the right are "
            "the dimensions."
        ),
        heads=("epoch", "dimension", f"mean_{score.replace(' ', '_')}"),
        rows=lambda: ((epoch.epoch, k, value) for epoch in epochs for k, value in enumerate(progress.scores(epoch))),
        draw=lambda: _p_figure(epochs),
    )


def _p_figure(epochs: Sequence[EpochRecord]) -> Figure:
    from matplotlib.figure import Figure

    name = progress.score_name(epochs)
    histories = list(zip(*(progress.scores(epoch) for epoch in epochs), strict=True))
    finite = [v for line in histories for v in line if math.isfinite(v)]
    top = 1.0 if name == "p" else max([1.0, *finite])
    chosen = sorted(progress.informative(epochs[-1]))
    figure = Figure(figsize=(7.2, 3.9))
    axes = figure.add_axes((0.085, 0.13, 0.68, 0.83))
    looks: dict[int, dict[str, Any]] = {k: {"color": FAINT, "linewidth": 1.0} for k in range(len(histories))}
    for i, k in enumerate(chosen):
        dashes = _DASHES[i // len(COLOURS) % len(_DASHES)]
        looks[k] = {"color": COLOURS[i % len(COLOURS)], "linestyle": dashes, "zorder": 3}
    xs = [epoch.epoch for epoch in epochs]
    marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(xs) == 1 else {}
    for k, line in enumerate(histories):
        axes.plot(xs, _gaps(line), **looks[k], **marker)
    _epoch_axis(axes)
    axes.set_ylim(-0.02 * top, 1.02 * top)
    axes.set_ylabel(f"mean {name} (near 0 = informative)")
    ends = {k: line[-1] / top for k, line in enumerate(histories) if math.isfinite(line[-1])}
    _label_ends(axes, ends, {k: looks[k]["color"] for k in chosen}, top)
    return figure


def loss_over_epochs(run: NamedRun) -> str:
    """Distortion and rate (nats, means over images) over the epochs, in training and held out, as SVG text.

    Returns:
        SVG text; empty where the run has no epoch.
    """
    return for_page(loss_drawing(run))


def loss_drawing(run: NamedRun) -> Drawing | None:
    """The figure of `loss_over_epochs`; None where the run has no epoch."""
    epochs = run.record.epochs
    if not epochs:
        return None
    return Drawing(
        name="losses",
        label=f"Distortion and rate over epochs of {plain(run.name)}",
        caption=(
            "Distortion (negative log-likelihood, its constant included) and rate (the objective's bound on the KL to "
            "the prior) in nats, means over images, over the epochs of the training; dashed on held-out images."
        ),
        heads=("epoch", *(f"{part}_{name}" for name in _PARTS for part in ("training", "held_out"))),
        rows=lambda: ((epoch.epoch, *_losses(epoch)) for epoch in epochs),
        draw=lambda: _loss_figure(epochs),
    )


def _losses(epoch: EpochRecord) -> Iterator[float | None]:
    for name in _PARTS:
        yield getattr(epoch.train, name)
        yield None if epoch.held_out is None else getattr(epoch.held_out, name)


def _loss_figure(epochs: Sequence[EpochRecord]) -> Figure:
    from matplotlib.figure import Figure

    xs = [epoch.epoch for epoch in epochs]
    figure = Figure(figsize=(7.2, 3.1), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), _PARTS, strict=True):
        train = [getattr(epoch.train, name) for epoch in epochs]
        held_out = [math.nan if e.held_out is None else getattr(e.held_out, name) for e in epochs]
        marker = "o" if len(xs) == 1 else ""
        axes.plot(xs, _gaps(train), color=COLOURS[0], marker=marker, label="training")
        if any(math.isfinite(value) for value in held_out):
            look = {"color": COLOURS[1], "linestyle": "dashed", "marker": marker}
            axes.plot(xs, _gaps(held_out), label="held out", **look)
        _epoch_axis(axes)
        axes.set_ylabel(f"{name}, nats" + _log_scale(axes, [*train, *held_out]))
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False)
    return figure


def _epoch_axis(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", alpha=0.35, linewidth=0.6)


def _gaps(values: Sequence[float]) -> list[float]:
    """Values with a gap where one is not finite: an infinity would stretch the axis."""
    return [value if math.isfinite(value) else math.nan for value in values]


def _log_scale(axes: Axes, values: Sequence[float]) -> str:
    """A logarithmic axis where the first epochs would flatten the others; says so in the axis label."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or min(finite) <= 0 or max(finite) < 20 * min(finite):
        return ""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    # Powers of ten would be written in matplotlib's formula language, which the figures do not use.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return " (log scale)"


def _label_ends(axes: Axes, ends: dict[int, float], colours: dict[int, str], top: float) -> None:
    """Write the indices of lines beside where they end, each in the line's colour, joined by a hair line."""
    groups = clusters({k: v for k, v in ends.items() if k in colours}, _GAP, _MOST)
    grey = clusters({k: v for k, v in ends.items() if k not in colours}, 2 * _GAP, len(ends))
    labels = sorted([*groups, *grey], key=lambda label: label[0])
    for (end, members), height in zip(labels, placed([end for end, _ in labels], _GAP), strict=True):
        transform = axes.get_yaxis_transform()
        line: dict[str, Any] = {"color": FAINT, "linewidth": 0.6, "clip_on": False, "transform": transform}
        axes.plot([1.005, 1.03], [end * top, height * top], **line)
        look: dict[str, Any] = {"va": "center", "transform": transform, "fontsize": 9}
        if members[0] not in colours and len(members) > _MOST:
            axes.text(1.04, height * top, f"{len(members)} others", color=INK, alpha=0.75, **look)
            continue
        for place, k in enumerate(members):
            x = 1.04 + place * 0.042
            axes.text(x, height * top, str(k), color=colours.get(k, INK), **look)
