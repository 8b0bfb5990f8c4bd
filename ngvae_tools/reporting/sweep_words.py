"""The answer of a sweep in a sentence, or why there is none; stdlib only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ngvae_tools.reporting.words import plural

if TYPE_CHECKING:
    from ngvae_tools.sweep_record import SweepRecord, Verdict


def headline(record: SweepRecord) -> str:
    """The answer in a sentence."""
    verdict = record.verdicts[0]
    if verdict.answer is not None:
        answer = verdict.answer
        number = plural(answer.count, "informative dimension", "informative dimensions")
        return (
            f"{number} by {verdict.rule}: the same from sigma {answer.low:g} to {answer.high:g} "
            f"(factor {answer.factor:.1f})."
        )
    if verdict.plateaus:
        counts = " and ".join(str(count) for count in distinct_counts(verdict))
        return f"No one answer by {verdict.rule}: {counts} hold over equally wide ranges of sigma."
    return f"No plateau by {verdict.rule}: {no_plateau(record, verdict)}."


def distinct_counts(verdict: Verdict) -> list[int]:
    """Counts of the widest plateaus, each once, from that of the least sigma on."""
    return list(dict.fromkeys(plateau.count for plateau in verdict.plateaus))


def no_plateau(record: SweepRecord, verdict: Verdict) -> str:
    """Why a rule has no plateau, as a clause."""
    levels = [(level.sigma, level.count(verdict.rule)) for level in record.levels]
    counts = {count for _, count in levels if count is not None}
    if counts == {record.latent_dim}:
        return f"all {record.latent_dim} dimensions are informative at every level"
    if counts == {0}:
        return "no dimension is informative at any level"
    narrow = _widest_narrow(levels, record.latent_dim)
    if narrow is not None:
        count, low, high = narrow
        return f"no count holds over a factor of 1.5 in sigma; {count} from {low:g} to {high:g} is the widest range"
    return "no count holds over a range of sigma"


def _widest_narrow(levels: Sequence[tuple[float, int | None]], latent_dim: int) -> tuple[int, float, float] | None:
    """The widest run of two levels or more with one count, neither 0 nor K."""
    runs = []
    for count, group in groupby(levels, key=lambda level: level[1]):
        sigmas = [sigma for sigma, _ in group]
        if count is not None and 0 < count < latent_dim and len(sigmas) > 1:
            runs.append((count, sigmas[0], sigmas[-1]))
    return max(runs, key=lambda run: run[2] / run[1], default=None)
