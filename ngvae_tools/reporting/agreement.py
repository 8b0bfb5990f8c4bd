"""Whether the rules of an analysis agree, as a sentence; stdlib only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.analysis.indices import indices
from ngvae_tools.reporting import rules
from ngvae_tools.reporting.words import plural

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord, Selection


def agreement(record: AnalysisRecord) -> str:
    """How many of the other rules mark the same dimensions, and what each of the rest says instead.

    As in `5 of 6 other rules mark the same dimensions; snr marks 3 too, not 7.`; empty with one rule alone.
    """
    own, *others = rules.rules_of(record)
    if not others:
        return ""
    apart = [rule for rule in others if rule.informative != own.informative]
    if not apart:
        return f"{_every(len(others))} the same dimensions."
    same = len(others) - len(apart)
    return f"{same} of {plural(len(others), 'other rule marks', 'other rules mark')} the same dimensions; " + (
        "; ".join(_difference(rule, own) for rule in apart) + "."
    )


def _every(number: int) -> str:
    return {1: "The other rule marks", 2: "Both other rules mark"}.get(number, f"All {number} other rules mark")


def _difference(rule: Selection, own: Selection) -> str:
    more, less = set(rule.indices) - set(own.indices), set(own.indices) - set(rule.indices)
    parts = ([f"marks {indices(more)} too"] if more else []) + ([f"does not mark {indices(less)}"] if less else [])
    return f"{rules.head(rule)} {' and '.join(parts)}"
