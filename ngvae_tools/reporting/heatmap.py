"""Covariance and correlation of mu of each model as heat maps on one colour scale (Fig. 4 of the paper); factors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.covariance import DEGENERATE
from ngvae_tools.reporting.drawing import Cell, Drawing, for_page
from ngvae_tools.reporting.svg import INK
from ngvae_tools.reporting.words import plain, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from ngvae_tools.record import AnalysisRecord, Supervised

    Array = npt.NDArray[np.float64]

CAPTION = (
    "Empirical covariance of the posterior means mu over the images, scaled: divided by the largest diagonal "
    "value of its model, so 1 is the variance of the dimension that varies most and all values lie between "
    "-1 and 1. One colour scale for all models. Triangles mark informative dimensions."
)

CORRELATION_CAPTION = (
    "Correlation of the posterior means mu over the images: the covariance freed of how much each dimension varies, "
    "so that weak dimensions are seen too. Cells of constant dimensions, which correlate with nothing, are left out, "
    "and those of dimensions that are not informative are pale: their mu may hardly vary, and then its correlations "
    "say little. One colour scale for all models. Triangles mark informative dimensions."
)

FACTOR_CAPTION = (
    "Information I(z; factor) between each dimension and each factor, in nats. Disentangled: one dark cell a column."
)

_PANEL = 3.15  # inches; two and their scale are as wide as a page

_PALE = 0.25  # opacity

_NUMBERED = 20  # dimensions whose cells are wide enough for a number


def covariance_heatmap(records: Sequence[AnalysisRecord], names: Sequence[str] | None = None) -> str:
    """Scaled covariance of mu of each record, at most two panels a row, as SVG (Fig. 4).

    Each matrix, shape (K, K), is divided by its largest diagonal value; colours run from -1 to 1 for all.
    A record without a covariance (fewer than two images) has no panel.

    Args:
        records: The analyses compared.
        names: A title for each; None names them by family and K.

    Returns:
        SVG text; empty where no record has a covariance.
    """
    return for_page(covariance_drawing(records, names))


def correlation_heatmap(records: Sequence[AnalysisRecord], names: Sequence[str] | None = None) -> str:
    """Correlation of mu of each record, with the arguments, panels and colours of `covariance_heatmap`, as SVG."""
    return for_page(correlation_drawing(records, names))


def covariance_drawing(records: Sequence[AnalysisRecord], names: Sequence[str] | None = None) -> Drawing | None:
    """The figure of `covariance_heatmap`; its numbers are the covariance of the record and what is drawn of it."""
    return _drawing("covariance", "scaled covariance", CAPTION, _titled(records, names), scaled_covariance)


def correlation_drawing(records: Sequence[AnalysisRecord], names: Sequence[str] | None = None) -> Drawing | None:
    """The figure of `correlation_heatmap`; its numbers have no value where a dimension is constant."""
    titled = _titled(records, names)
    return _drawing("correlation", "correlation", CORRELATION_CAPTION, titled, correlation, pale=True)


def scaled_covariance(record: AnalysisRecord) -> Array:
    """Covariance of mu over its largest diagonal value, shape (K, K); zeros where no dimension varies."""
    covariance = np.asarray(record.covariance, dtype=np.float64)
    largest = covariance.diagonal().max(initial=0.0)
    return covariance / largest if largest > 0 else np.zeros_like(covariance)


def correlation(record: AnalysisRecord) -> Array:
    """Correlation of mu, shape (K, K); NaN in rows and columns of dimensions that the metrics too call constant."""
    scaled = scaled_covariance(record)
    varies = scaled.diagonal() > DEGENERATE
    deviation = np.sqrt(np.where(varies, scaled.diagonal(), np.nan))
    return np.asarray(np.clip(scaled / np.outer(deviation, deviation), -1.0, 1.0))


Titled = list[tuple["AnalysisRecord", str]]
"""Records that have a covariance, each with its title."""


def _titled(records: Sequence[AnalysisRecord], names: Sequence[str] | None) -> Titled:
    titles = names or [f"{r.model.family}, K = {r.model.latent_dim}" for r in records]
    return [(r, plain(title)) for r, title in zip(records, titles, strict=True) if r.covariance is not None]


def _drawing(
    name: str, shows: str, caption: str, shown: Titled, values: Callable[[AnalysisRecord], Array], *, pale: bool = False
) -> Drawing | None:
    if not shown:
        return None
    return Drawing(
        name=name,
        label=f"Heat map of the {shows} of mu: " + ", ".join(title for _, title in shown),
        caption=caption,
        heads=("analysis", "dimension_a", "dimension_b", "covariance", shows.replace(" ", "_")),
        rows=lambda: (row for record, title in shown for row in _cells(record, title, values(record))),
        draw=lambda: _heatmaps(shown, values, pale=pale),
    )


def _cells(record: AnalysisRecord, title: str, drawn: Array) -> Iterator[tuple[Cell, ...]]:
    assert record.covariance is not None
    for a, row in enumerate(record.covariance):
        for b, value in enumerate(row):
            yield title, a, b, value, None if np.isnan(drawn[a, b]) else float(drawn[a, b])


def _heatmaps(shown: Titled, values: Callable[[AnalysisRecord], Array], *, pale: bool) -> Figure:
    from matplotlib.figure import Figure

    columns = min(2, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(columns * _PANEL + 0.9, lines * (_PANEL + 0.15)), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    used = list(grid.flat[: len(shown)])
    for axes, (record, title) in zip(used, shown, strict=True):
        image = _panel(axes, values(record), record.selection.indices, title, pale=pale)
    bar = figure.colorbar(image, ax=used, shrink=0.8 / lines if lines > 1 else 0.8, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.outline.set_visible(False)
    return figure


def _panel(axes: Axes, values: Array, chosen: Sequence[int], title: str, *, pale: bool) -> AxesImage:
    dim = len(values)
    seen = np.isin(np.arange(dim), chosen) if pale else np.ones(dim, bool)
    strength = np.where(np.logical_and.outer(seen, seen), 1.0, _PALE)
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none", alpha=strength)
    step = math.ceil(dim / 16)
    ticks = range(0, dim, step)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.tick_params(length=2, labelsize=8)
    axes.spines[:].set_visible(False)
    edge = 1.012
    size = max(3.0, min(5.0, 60 / dim))
    common: dict[str, Any] = {"linestyle": "none", "color": INK, "markersize": size, "clip_on": False}
    axes.plot(chosen, [edge] * len(chosen), marker="v", transform=axes.get_xaxis_transform(), **common)
    axes.plot([edge] * len(chosen), chosen, marker="<", transform=axes.get_yaxis_transform(), **common)
    axes.set_title(shortened(title, 36), pad=9)
    axes.set_xlabel("dimension")
    axes.set_ylabel("dimension")
    return image


def factor_heatmap(supervised: Supervised) -> str:
    """Information of each dimension on each factor in nats, a row a factor, as SVG.

    Returns:
        SVG text; empty without factors.
    """
    return for_page(factor_drawing(supervised))


def factor_drawing(supervised: Supervised) -> Drawing | None:
    """The figure of `factor_heatmap`; None without factors."""
    names = [plain(factor.name) for factor in supervised.factors]
    if np.size(supervised.information) == 0:
        return None
    return Drawing(
        name="factors",
        label="Heat map of the information of each dimension on each factor",
        caption=FACTOR_CAPTION,
        heads=("factor", "dimension", "information_nats"),
        rows=lambda: (
            (name, k, value)
            for name, row in zip(names, supervised.information, strict=True)
            for k, value in enumerate(row)
        ),
        draw=lambda: _factor_figure(names, np.asarray(supervised.information, dtype=np.float64)),
    )


def _factor_figure(names: Sequence[str], values: Array) -> Figure:
    from matplotlib.figure import Figure

    factors, dim = values.shape
    top = values.max()
    width = min(max(0.48 * dim, 2.0), 5.0) + 2.2
    figure = Figure(figsize=(width, 0.42 * factors + 1.1), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=top or 1.0, interpolation="none", aspect="auto")
    axes.set_xticks(range(0, dim, math.ceil(dim / 25)))
    axes.set_yticks(range(factors), [shortened(name, 20) for name in names])
    axes.tick_params(length=2, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("dimension")
    if dim <= _NUMBERED:
        for (row, column), value in np.ndenumerate(values):
            # On these blues, dark text is read up to the middle of the scale and white text above.
            tone = "#101418" if value <= 0.55 * top else "#fdfdfd"
            axes.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5 if dim <= 12 else 6.5, color=tone
            )
    bar = figure.colorbar(image, ax=axes, label="nats", shrink=0.9)
    bar.outline.set_visible(False)
    return figure
