"""Building blocks of the terminal's views; rich is imported where one is made.

Text of a record is foreign: it enters as `Text`, so that no markup or control character in it is obeyed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ngvae_tools.reporting.words import ABSENT, plain, span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rich.console import RenderableType
    from rich.table import Table

MARK = "*"
"""Stands before informative dimensions, for those who see no bold type and no colour."""


def table(
    heads: Sequence[str],
    *,
    left: int,
    text: Collection[int] = (),
    padding: tuple[int, int, int, int] = (0, 1, 0, 1),
) -> Table:
    """A table whose first `left` columns, and those at the places `text`, are flush left."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=padding, header_style="bold")
    for place, head in enumerate(heads):
        justify: Literal["left", "right"] = "left" if place < left or place in text else "right"
        result.add_column(Text(head), justify=justify, overflow="fold")
    return result


def add(target: Table, *cells: str, style: str = "", end_section: bool = False) -> None:
    """Add a row of texts."""
    from rich.text import Text

    target.add_row(*(Text(cell) for cell in cells), style=style, end_section=end_section)


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """A label and a value a line."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(max_width=28, overflow="fold")
    grid.add_column(overflow="fold")
    for label, value in rows:
        grid.add_row(Text(label), Text(value))
    return grid


def title(text: str) -> RenderableType:
    """The head of a section."""
    from rich.text import Text

    return Text(f"\n{plain(text)}\n", style="bold", overflow="fold")


def paragraph(text: str) -> RenderableType:
    """A sentence, folded to the width."""
    from rich.text import Text

    return Text(text, overflow="fold")


def abreast(texts: Iterable[str]) -> RenderableType:
    """Short texts beside each other, as many a line as fit, none of them broken."""
    from rich.columns import Columns
    from rich.text import Text

    return Columns([Text(text) for text in texts], padding=(0, 2))


def extent(values: Iterable[float | None]) -> str:
    """Smallest and largest of the values that are there; n/a where none is."""
    present = [value for value in values if value is not None]
    return span((min(present), max(present))) if present else ABSENT
