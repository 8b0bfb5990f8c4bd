"""Turns a matplotlib figure into SVG for a page, and into SVG and PNG for a paper: the same bytes each time."""

from __future__ import annotations

import html
import io
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

INK = "#010203"
"""Stands for the text colour around the figure: black on white, white on black. A paper has it as it is."""

FAINT = "#868788"
"""Stands for the faint colour of grids and of what is in the background."""

DPI = 300
"""Dots an inch of a PNG for a paper."""

COLOURS = ("#3b82c4", "#d9722e", "#2f9e5b", "#c94f6d", "#8f6cc9", "#a8842c", "#1f9ea8", "#d05fb0")
"""Tones of lines that stand out on white and on near black alike."""

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "font.size": 10,
    "grid.color": FAINT,
    "lines.linewidth": 1.6,
    "savefig.facecolor": "none",
    "svg.hashsalt": "ngvae-tools",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """The look that all figures share; everything that makes or writes one happens inside."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()  # the user's own settings would change the figure
        mpl.rcParams.update(_STYLE)
        # Text is written as text: the reader's browser has glyphs that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph \d+", category=UserWarning)
        yield


def svg_of(figure: Figure, label: str) -> str:
    """A figure as an `<svg>` element without prolog, metadata or ids that another figure could have.

    Args:
        figure: Made inside `style()`.
        label: What the figure shows, for those who cannot see it.
    """
    box, rest = _saved(figure, {"svg.fonttype": "none"}, facecolor="none")
    width = round(float(box.split()[2]) * 4 / 3)
    rest = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", rest, count=1, flags=re.DOTALL)
    # Groups' ids repeat from figure to figure; clip paths and markers have ids made of their content.
    rest = re.sub(r'<g id="[^"]*"', "<g", rest)
    rest = re.sub(r"font-family: [^;\"<]*; ?", "", rest)
    rest = re.sub(r">\s+<", "><", rest).replace(INK, "currentColor").replace(FAINT, "var(--faint, #888)")
    root = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" role="img" aria-label="{html.escape(label)}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" '
        'style="stroke-linejoin: round; stroke-linecap: butt; '
        f"min-width: min({round(0.7 * width)}px, 30rem); "
        'max-width: 100%; height: auto">'
    )
    return root + rest.rstrip() + "\n"


def file_svg(figure: Figure, label: str, caption: str) -> str:
    """A figure as an SVG file on white, in its size in print, which needs neither a page nor a font.

    Text is drawn as outlines: a reader's or a printer's machine need not have the font, and no word moves.

    Args:
        figure: Made inside `style()`.
        label: What it shows, the file's title.
        caption: How to read it, the file's description.
    """
    box, rest = _saved(figure, {"svg.fonttype": "path"}, facecolor="white", dpi=DPI)
    width, height = box.split()[2:]
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1" '
        f'viewBox="{box}" width="{width}pt" height="{height}pt" role="img">\n'
        f"<title>{html.escape(label)}</title>\n<desc>{html.escape(caption)}</desc>"
        f"{rest.rstrip()}\n"
    )


def file_png(figure: Figure) -> bytes:
    """A figure as a PNG of 300 dots an inch on white, in its size in print.

    Args:
        figure: Made inside `style()`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    figure.set_canvas(FigureCanvasAgg(figure))
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _saved(figure: Figure, settings: dict[Any, Any], **options: Any) -> tuple[str, str]:
    """The view box of the figure as matplotlib writes it, and everything behind the opening tag."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.set_canvas(FigureCanvasSVG(figure))
    with mpl.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata=nothing, **options)
    body = buffer.getvalue()
    opening, rest = body[body.index("<svg") :].split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', opening)
    assert box is not None
    return box[1], rest
