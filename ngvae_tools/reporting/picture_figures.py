"""Figures made of images: originals and decoded (Fig. 2), traversals, the extremes of each dimension; and the map."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ngvae_tools.reporting.drawing import Cell, Drawing
from ngvae_tools.reporting.svg import COLOURS, INK
from ngvae_tools.reporting.words import plain, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ngvae_tools.reporting.pictures import Bytes, Colouring, Extremes, LatentMap, Pictures, Reconstructed, Traversal

_WIDTH = 7.2  # inches

_SPACE = 0.06  # inches between images

_ACROSS = 10
"""Originals side by side."""

_FRAMES = 11
"""Frames of a traversal side by side."""

_EXTREMES = 5
"""Images at either end of a dimension."""

_ROWS = 14
"""Dimensions that fit on a printed page; the numbers hold all."""

_PANELS = 6
"""Colourings of the map that are drawn; the numbers hold all."""

_FARTHEST = 1e300
"""Values beyond have the colour of this one: matplotlib takes differences, which must be finite."""


def picture_drawings(pictures: Pictures | None) -> list[Drawing]:
    """A figure for each kind of picture that was gathered."""
    if pictures is None:
        return []
    made = []
    if pictures.reconstructed is not None and pictures.reconstructed.names:
        made.append(_reconstructions(pictures.reconstructed))
    if pictures.traversals:
        made.append(_traversals(pictures))
    if pictures.extremes:
        made.append(_extremes(pictures.extremes))
    if pictures.map is not None and len(pictures.map.points):
        made.append(_map(pictures.map))
    return made


def _reconstructions(found: Reconstructed) -> Drawing:
    return Drawing(
        name="reconstructions",
        label="Originals and, below each, what the decoder makes of its latents",
        caption=(
            "Above, original images; below each, the image decoded from its latents, with dimensions that were not "
            "kept at their mean. The number is the mean squared error, of values in [0, 1]."
        ),
        heads=("image", "mean_squared_error"),
        rows=lambda: zip((plain(name) for name in found.names), found.error, strict=True),
        draw=lambda: _reconstructions_figure(found),
    )


def _reconstructions_figure(found: Reconstructed) -> Figure:
    across = min(_ACROSS, len(found.names))
    lines = math.ceil(len(found.names) / across)
    sheet = _Sheet(across, [0.0, 0.2] * lines, found.originals.shape[1:3], left=0.85)
    for place, (original, decoded) in enumerate(zip(found.originals, found.decoded, strict=True)):
        line, column = divmod(place, across)
        sheet.image(column, 2 * line, original)
        sheet.image(column, 2 * line + 1, decoded)
        sheet.below(column, 2 * line + 1, f"{found.error[place]:.2g}")
    for line in range(lines):
        sheet.beside(2 * line, "original")
        sheet.beside(2 * line + 1, "decoded")
    return sheet.figure


def _traversals(pictures: Pictures) -> Drawing:
    rows = sorted(pictures.traversals, key=lambda row: not row.informative)
    others = [row for row in rows if not row.informative][:3]
    shown = [row for row in rows if row.informative][: _ROWS - len(others)] + others
    held = f"as they are for the image {plain(pictures.base)}" if pictures.base else "at their mean"
    return Drawing(
        name="traversals",
        label="Images decoded as one dimension at a time moves",
        caption=(
            f"A row a dimension: images decoded as this one alone moves, all others held {held}; the value below each. "
            f"{pictures.ranges} Uninformative dimensions, in brackets, come last." + _left_out(len(shown), len(rows))
        ),
        heads=("dimension", "informative", "value", "change"),
        rows=lambda: (
            (row.dimension, row.informative, *numbers)
            for row in rows
            for numbers in zip(row.values, row.change, strict=True)
        ),
        draw=lambda: _traversals_figure(shown),
    )


def _traversals_figure(rows: Sequence[Traversal]) -> Figure:
    across = min(_FRAMES, max(len(row.values) for row in rows))
    sheet = _Sheet(across, [0.13] * len(rows), rows[0].frames.shape[1:3], left=0.55)
    for line, row in enumerate(rows):
        for column, i in enumerate(_spread(len(row.values), across)):
            sheet.image(column, line, row.frames[i])
            sheet.below(column, line, _text(row.values[i], row.values))
        sheet.beside(line, f"z{row.dimension}" if row.informative else f"({row.dimension})")
    return sheet.figure


def _spread(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` things, evenly apart, the first and the last among them."""
    return [round(float(i)) for i in np.linspace(0, count - 1, min(count, most))]


def _text(value: float, others: Sequence[float]) -> str:
    """A value with the decimals that the largest of its kind has in two digits."""
    largest = max(abs(other) for other in others)
    if not 1e-3 <= largest < 1e5:
        return f"{value:.2g}"
    decimals = max(1 - math.floor(math.log10(largest)), 0)
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # a negative zero plus zero has no sign


def _extremes(found: Sequence[Extremes]) -> Drawing:
    return Drawing(
        name="extremes",
        label="Images with the least and the largest values of each dimension",
        caption=(
            "A row a dimension: at the left the images with its least values, at the right those with its largest, of "
            "all images; the value of mu below each." + _left_out(min(len(found), _ROWS), len(found))
        ),
        heads=("dimension", "end", "image", "value"),
        rows=lambda: (cells for row in found for cells in _ends(row)),
        draw=lambda: _extremes_figure(found[:_ROWS]),
    )


def _left_out(shown: int, count: int) -> str:
    return "" if shown == count else f" {shown} of {count} dimensions are drawn; the numbers hold all."


def _ends(row: Extremes) -> Iterator[tuple[Cell, ...]]:
    for end, names, values in (("low", row.low_names, row.low_values), ("high", row.high_names, row.high_values)):
        for name, value in zip(names, values, strict=True):
            yield row.dimension, end, plain(name), value


def _extremes_figure(found: Sequence[Extremes]) -> Figure:
    half = min(_EXTREMES, max(max(len(row.low_values), len(row.high_values)) for row in found))
    shape = (found[0].low_images if len(found[0].low_images) else found[0].high_images).shape[1:3]
    sheet = _Sheet(2 * half, [0.13] * len(found), shape, left=0.55, gap=0.22)
    for line, row in enumerate(found):
        # The very least are first, the very largest last.
        lows = list(zip(row.low_values, row.low_images, strict=True))[:half]
        highs = list(zip(row.high_values, row.high_images, strict=True))[-half:]
        for column, (value, image) in [*enumerate(lows), *enumerate(highs, 2 * half - len(highs))]:
            sheet.image(column, line, image)
            sheet.below(column, line, _text(value, (*row.low_values, *row.high_values)))
        sheet.beside(line, f"z{row.dimension}")
    return sheet.figure


class _Sheet:
    """Equal images in rows and columns in one axes, which is much quicker than axes of their own.

    Args:
        across: Images in a row.
        under: Room below each row, inches.
        shape: Height and width of an image.
        left: Room for what stands beside a row, inches.
        gap: Room in the middle of a row, inches.
    """

    def __init__(
        self, across: int, under: Sequence[float], shape: tuple[int, ...], *, left: float, gap: float = 0.0
    ) -> None:
        from matplotlib.figure import Figure

        self._wide = min((_WIDTH - left - gap) / across - _SPACE, 0.95)
        self._high = self._wide * shape[0] / shape[1]
        self._across, self._left, self._gap = across, left, gap
        self._tops = [_SPACE, *(_SPACE + np.cumsum([self._high + room + _SPACE for room in under]))]
        width = left + gap + across * (self._wide + _SPACE)
        self.figure = Figure(figsize=(width, self._tops[-1]))
        self._axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, width), ylim=(self._tops[-1], 0))
        self._axes.set_axis_off()

    def _corner(self, column: int, line: int) -> tuple[float, float]:
        gap = self._gap if 2 * column >= self._across else 0.0
        return self._left + column * (self._wide + _SPACE) + gap, self._tops[line]

    def image(self, column: int, line: int, image: Bytes) -> None:
        """Show an image, shape (h, w, c)."""
        x, y = self._corner(column, line)
        colours = np.broadcast_to(image, (*image.shape[:2], 3))
        place = (x, x + self._wide, y + self._high, y)
        self._axes.imshow(colours, extent=place, interpolation="none", aspect="auto")
        # Showing an image moves the limits.
        self._axes.set(xlim=(0, self.figure.get_figwidth()), ylim=(self.figure.get_figheight(), 0))

    def below(self, column: int, line: int, text: str) -> None:
        """Write below an image."""
        x, y = self._corner(column, line)
        self._axes.text(x + self._wide / 2, y + self._high + 0.015, text, ha="center", va="top", fontsize=6.5)

    def beside(self, line: int, text: str) -> None:
        """Write at the left of a row."""
        _, y = self._corner(0, line)
        self._axes.text(self._left - 0.1, y + self._high / 2, text, ha="right", va="center", fontsize=9)


def _map(found: LatentMap) -> Drawing:
    what = f"{len(found.points):,} of {found.n_images:,} images" if len(found.points) < found.n_images else "all images"
    return Drawing(
        name="map",
        label=f"Latents of {what} in the plane by {found.method}",
        caption=(
            f"The latents of {what}, each in units of {found.units}, brought to the plane by {found.method}; a panel a "
            "colouring." + ("" if found.explained is None else " At the axes, their shares of the variance.")
        ),
        heads=_apart(["image", "map_x", "map_y", *(plain(colouring.name) for colouring in found.colourings)]),
        rows=lambda: (
            (plain(name), float(x), float(y), *(_known(colouring, i) for colouring in found.colourings))
            for i, (name, (x, y)) in enumerate(zip(found.names, found.points, strict=True))
        ),
        draw=lambda: _map_figure(found),
    )


def _apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, of which equal ones get a number: factors may be called as they like."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{i}" for i in itertools.count(2))
        found.append(name if name not in found else next(other for other in numbered if other not in {*names, *found}))
    return tuple(found)


def _known(colouring: Colouring, point: int) -> Cell:
    """The number of a point, or the name of its class."""
    value = float(colouring.values[point])
    if math.isnan(value):
        return None
    return colouring.called(value) if colouring.classes else value


def _map_figure(found: LatentMap) -> Figure:
    from matplotlib.figure import Figure

    panels: Sequence[Colouring | None] = found.colourings[:_PANELS] or (None,)
    columns = 2 if len(panels) in {2, 4} else min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    side = 3.6 if len(panels) == 1 else _WIDTH / columns
    figure = Figure(figsize=(columns * side, lines * side * 0.92), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid.flat, panels, strict=False):
        _points(axes, found, panel)
    along = ["", ""] if found.explained is None else [f" ({100 * share:.0f} %)" for share in found.explained]
    figure.supxlabel(f"{found.method} 1{along[0]}", fontsize=10)
    figure.supylabel(f"{found.method} 2{along[1]}", fontsize=10)
    return figure


def _points(axes: Axes, found: LatentMap, colouring: Colouring | None) -> None:
    x, y = np.asarray(found.points, dtype=np.float64).T
    # Thousands of circles as vectors would make a file of megabytes.
    common: dict[str, Any] = {"s": 5, "linewidths": 0, "alpha": 0.8, "rasterized": True}
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=5)
    axes.set_aspect("equal", adjustable="datalim")
    if colouring is None:
        axes.scatter(x, y, color=COLOURS[0], **common)
        return
    name = plain(colouring.name)
    axes.set_title(shortened(name, 24), fontsize=9)
    known = np.isfinite(colouring.values)
    axes.scatter(x[~known], y[~known], color=INK, **{**common, "alpha": 0.25})
    if not known.any():
        axes.set_title(f"{axes.get_title()}: not known", fontsize=9)
        return
    colours, ticks = colouring.values[known], None
    look: dict[str, Any] = {"cmap": "viridis"}
    if colouring.categorical:
        classes, places = np.unique(colours, return_inverse=True)
        colours = places.astype(np.float64)
        look, ticks = _classes(len(classes)), list(range(0, len(classes), math.ceil(len(classes) / 8)))
    else:
        colours = colours.clip(-_FARTHEST, _FARTHEST)
    shown = axes.scatter(x[known], y[known], c=colours, **look, **common)
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02, ticks=ticks)
    if ticks is not None:
        bar.set_ticks(ticks, labels=[shortened(colouring.called(classes[i]), 14) for i in ticks])
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)


def _classes(count: int) -> dict[str, Any]:
    """A colour of its own for each of a few classes, shades for many; points are drawn in order, no class on top."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    edges = [place - 0.5 for place in range(count + 1)]
    if count <= len(COLOURS):
        return {"cmap": ListedColormap(COLOURS[:count]), "norm": BoundaryNorm(edges, count)}
    return {"cmap": "viridis", "vmin": edges[0], "vmax": edges[-1]}
