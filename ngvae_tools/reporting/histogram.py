"""The histogram of p over images as a line of blocks for a terminal and as a small picture for a page; stdlib only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.reporting.progress import BLOCKS

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 10
"""Characters of the line: two bins each."""

_BAR, _HEIGHT = 5, 22  # pixels


def blocks(counts: Sequence[int] | None) -> str:
    """Ten characters from p = 0 to 1: a dot for no image, the tallest block for the fullest pair of bins."""
    if counts is None:
        return ""
    step = len(counts) // WIDTH
    folded = [sum(counts[i : i + step]) for i in range(0, len(counts), step)]
    top = max(folded)
    return "".join(BLOCKS[min(value * 8 // top, 7)] if value else "·" for value in folded)


def picture(counts: Sequence[int], label: str) -> str:
    """The histogram as an `<svg>` element in the text's colour; a bin with any image is at least a pixel high.

    Args:
        counts: Images in each bin.
        label: What it shows, in words of our own.
    """
    top = max(counts, default=0)
    heights = [max(1, round(_HEIGHT * value / top)) if value else 0 for value in counts]
    bars = "".join(f"M{_BAR * i} {_HEIGHT}v-{h}h{_BAR - 1}v{h}z" for i, h in enumerate(heights) if h)
    width = _BAR * len(counts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT + 1}" width="{width}" '
        f'height="{_HEIGHT + 1}" role="img" aria-label="{label}"><path d="{bars}" fill="currentColor"/>'
        f'<path d="M0 {_HEIGHT}.5h{width}" stroke="currentColor" opacity="0.4"/></svg>'
    )
