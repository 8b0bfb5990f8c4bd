"""Where the labels of lines go, so that none covers another; stdlib only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def clusters(ends: Mapping[int, float], gap: float, most: int) -> list[tuple[float, tuple[int, ...]]]:
    """Lines that end within `gap` of each other share a label of at most `most` indices.

    Args:
        ends: Where each line ends on an axis from 0 to 1.
        gap: Height of a line of text on that axis.
        most: Indices that fit in a line of text.

    Returns:
        Mean end and indices of each label, from the lowest up.
    """
    groups: list[list[int]] = []
    for k in sorted(ends, key=lambda k: (ends[k], k)):
        if groups and ends[k] - ends[groups[-1][0]] < gap and len(groups[-1]) < most:
            groups[-1].append(k)
        else:
            groups.append([k])
    return [(sum(ends[k] for k in group) / len(group), tuple(sorted(group))) for group in groups]


def placed(targets: Sequence[float], gap: float) -> list[float]:
    """Heights at least `gap` apart, near the ascending `targets` and within 0 to 1 while there is room."""
    heights: list[float] = []
    for target in targets:
        heights.append(max(target, heights[-1] + gap) if heights else max(target, 0.0))
    ceiling = 1.0
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], ceiling)
        ceiling = heights[i] - gap
    return heights
