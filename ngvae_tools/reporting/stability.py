"""What several models say together, as plain text in rows and tables for terminal and page; stdlib only."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ngvae_tools.analysis.indices import indices
from ngvae_tools.reporting.words import ABSENT, count, plain

if TYPE_CHECKING:
    from ngvae_tools.analysis.stability import Match, ModelStability, PairStability, Stability
    from ngvae_tools.reporting.facts import Rows


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of plain text.

    Attributes:
        title: What it shows.
        heads: Head of each column.
        rows: Cells, as many a row as heads.
        text: Places of the columns of words, the first apart; the others hold numbers.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: tuple[int, ...]


def stability_headline(stability: Stability) -> str:
    """The answer in a line: the counts, their mean and their range."""
    numbers = ", ".join(str(model.count) for model in stability.models)
    low, high = stability.count_range
    spread = f"range {low} to {high}" if low != high else "the same in every analysis"
    return f"Informative dimensions: {numbers}: mean {stability.count_mean:.1f}, {spread}"


def stability_rows(stability: Stability) -> Rows:
    """The spread of the count, how the matched dimensions correlate, and UDR, a label and a text each."""
    scores = [model.udr for model in stability.models if model.udr is not None]
    chance = [pair.udr_chance for pair in stability.pairs if pair.udr_chance is not None]
    low, high = stability.count_range
    rows = [
        ("Models", count(len(stability.models))),
        ("Informative", ", ".join(str(model.count) for model in stability.models)),
        ("Mean and range", f"{stability.count_mean:.1f} ± {stability.count_sd:.1f}, {low} to {high}"),
    ]
    strengths = [abs(match.correlation) for pair in stability.pairs for match in pair.matches]
    if strengths:
        text = f"median {statistics.median(strengths):.2f}, {_range(strengths)}"
        rows.append(("Matched correlations", text))
    if scores:
        level = f" (chance gives {sum(chance) / len(chance):.2f})" if chance else ""
        rows.append(("UDR", f"{_range(scores)}{level}"))
    return rows


def stability_tables(stability: Stability) -> list[TextTable]:
    """A table of the models, and where some could be matched one of every two models."""
    models = TextTable(
        "Models",
        ("model", "informative", "UDR", "found again in other models"),
        tuple(_model(model) for model in stability.models),
        (3,),
    )
    if not stability.pairs:
        return [models]
    heads = ("models", "images", "UDR", "by chance", "matched", "correlation", "without a partner")
    return [models, TextTable("Every two models", heads, tuple(_pair(pair) for pair in stability.pairs), (6,))]


def stability_matches(stability: Stability) -> list[tuple[str, list[str]]]:
    """Every two models, and their matched dimensions with the correlation of each."""
    return [
        (f"{plain(pair.a)}, {plain(pair.b)}", [f"{m.a}~{m.b} ({m.correlation:+.2f})" for m in _found(pair)] or ["none"])
        for pair in stability.pairs
    ]


def stability_notes(stability: Stability) -> list[str]:
    """What a reader must know."""
    result = [plain(note) for note in stability.notes]
    if stability.pairs:
        result.append(
            "The correlations of matched dimensions measure how far two models agree, up to order, sign and scale; a "
            "dimension is matched, and found again, where its partner correlates by at least 0.7. UDR (Duan et al. "
            "2020, Spearman) asks too that each dimension correlate with no other: it is below 1, even between equal "
            "codes, where a model's own dimensions are correlated."
        )
    return result


def _model(model: ModelStability) -> tuple[str, ...]:
    found = "; ".join(
        f"{indices(k for k, n in zip(model.dimensions, model.found, strict=True) if n == times)} in {times}"
        for times in sorted(set(model.found), reverse=True)
    )
    again = f"of {model.others}: {found}" if model.others and found else ABSENT
    return plain(model.name), str(model.count), _two(model.udr), again


def _pair(pair: PairStability) -> tuple[str, ...]:
    alone = [
        f"{indices(dimensions)} of {plain(name)}"
        for name, dimensions in ((pair.a, pair.alone_a), (pair.b, pair.alone_b))
        if dimensions
    ]
    strengths = [abs(match.correlation) for match in _found(pair)]
    return (
        f"{plain(pair.a)}, {plain(pair.b)}",
        count(pair.n_images),
        _two(pair.udr),
        _two(pair.udr_chance),
        str(len(strengths)),
        _range(strengths) if strengths else ABSENT,
        "; ".join(alone) or "none",
    )


def _found(pair: PairStability) -> list[Match]:
    """Matches that correlate enough."""
    return [match for match in pair.matches if match.a not in set(pair.alone_a)]


def _two(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
