"""How much each dimension carries, as bars at the head of a page; stdlib only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ngvae_tools.reporting.words import number

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord

NUMBERED = 30
"""Dimensions that leave room for an index below each bar on a telephone."""


def amounts(record: AnalysisRecord) -> dict[str, Any] | None:
    """A bar a dimension: its information, or the variance of its mu where no information is defined.

    Returns:
        The index, the height in percent and the verdict of each, and what they are; None without any number.
    """
    rows = record.dimensions
    by_information = any(row.information is not None for row in rows)
    values = [(row.information if by_information else row.mu_variance) or 0.0 for row in rows]
    top = max(values, default=0.0)
    if top <= 0:
        return None
    what, unit = ("Information", " nats") if by_information else ("Variance of mu", "")
    return {
        "bars": [
            (row.index, f"{100 * max(value, 0) / top:.1f}%", row.informative)
            for row, value in zip(rows, values, strict=True)
        ],
        "numbered": len(rows) <= NUMBERED,
        "caption": f"{what} of each dimension, up to {number(top, 2)}{unit}; coloured: informative.",
        "label": f"{what} of dimensions 0 to {len(rows) - 1}",
    }
