"""A figure and the numbers behind it: what the page shows, and what files for a paper are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ngvae_tools.reporting.svg import style, svg_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.figure import Figure

Cell = str | int | float | bool | None
"""A number as the record has it, a text, or None where there is no value."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure, not drawn yet.

    Attributes:
        name: What it shows, in letters and dashes; part of the names of its files.
        label: What it shows, for those who cannot see it.
        caption: How to read it.
        heads: Head of each column of its numbers.
        rows: Makes the numbers, as many a row as heads.
        draw: Makes the figure; called inside `style()`.
    """

    name: str
    label: str
    caption: str
    heads: tuple[str, ...]
    rows: Callable[[], Iterable[tuple[Cell, ...]]]
    draw: Callable[[], Figure]


def for_page(drawing: Drawing | None) -> str:
    """The figure as SVG text for a page, in the page's own colours; empty where there is none."""
    if drawing is None:
        return ""
    with style():
        return svg_of(drawing.draw(), drawing.label)
