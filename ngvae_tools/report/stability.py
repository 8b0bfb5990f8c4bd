"""What several models say together, as rows and tables of plain text for the terminal and the page; stdlib only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ngvae_tools.report.words import ABSENT, count, indices, number, plain

if TYPE_CHECKING:
    from ngvae_tools.analysis.stability import ModelStability, PairStability, Stability
    from ngvae_tools.report.facts import Rows


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of plain text.

    Attributes:
        title: What it shows.
        heads: Head of each column.
        rows: Cells, as many a row as heads.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def stability_headline(stability: Stability) -> str:
    """The answer in a line: the counts, their mean and their range."""
    numbers = ", ".join(str(model.count) for model in stability.models)
    low, high = stability.count_range
    spread = f"range {low} to {high}" if low != high else "the same in every model"
    return f"Informative dimensions: {numbers}: mean {stability.count_mean:.1f}, {spread}"


def stability_rows(stability: Stability) -> Rows:
    """The spread of the count and UDR, a label and a text each."""
    scores = [model.udr for model in stability.models if model.udr is not None]
    chance = [pair.udr_chance for pair in stability.pairs if pair.udr_chance is not None]
    low, high = stability.count_range
    rows = [
        ("Models", count(len(stability.models))),
        ("Informative", ", ".join(str(model.count) for model in stability.models)),
        ("Mean and range", f"{stability.count_mean:.1f} ± {stability.count_sd:.1f}, {low} to {high}"),
    ]
    if scores:
        level = f"; chance gives {number(sum(chance) / len(chance), 2)}" if chance else ""
        rows.append(("UDR", f"{number(min(scores), 2)} to {number(max(scores), 2)} (1 is best{level})"))
    return rows


def stability_tables(stability: Stability) -> list[TextTable]:
    """A table of the models, and where some could be matched one of every two models and their dimensions."""
    models = TextTable(
        "Models",
        ("model", "informative", "UDR", "found again in other models"),
        tuple(_model(model) for model in stability.models),
    )
    if not stability.pairs:
        return [models]
    heads = ("models", "images", "UDR", "by chance", "matched dimensions (correlation)", "without a partner")
    return [models, TextTable("Matched dimensions", heads, tuple(_pair(pair) for pair in stability.pairs))]


def stability_notes(stability: Stability) -> list[str]:
    """What a reader must know."""
    result = [plain(note) for note in stability.notes]
    if stability.pairs:
        result.append(
            "UDR (Duan et al. 2020, Spearman) says how far the dimensions of one model are those of another, up to "
            "order, sign and scale; a dimension is found again where its partner correlates by at least 0.7."
        )
    return result


def _model(model: ModelStability) -> tuple[str, ...]:
    found = "; ".join(
        f"{indices(k for k, n in zip(model.dimensions, model.found, strict=True) if n == times)} in {times}"
        for times in sorted(set(model.found), reverse=True)
    )
    again = f"of {model.others}: {found}" if model.others and found else ABSENT
    return plain(model.name), str(model.count), number(model.udr, 2), again


def _pair(pair: PairStability) -> tuple[str, ...]:
    alone = [
        f"{indices(dimensions)} of {plain(name)}"
        for name, dimensions in ((pair.a, pair.alone_a), (pair.b, pair.alone_b))
        if dimensions
    ]
    weak = set(pair.alone_a)
    matched = ", ".join(f"{m.a}~{m.b} ({m.correlation:+.2f})" for m in pair.matches if m.a not in weak)
    return (
        f"{plain(pair.a)}, {plain(pair.b)}",
        count(pair.n_images),
        number(pair.udr, 2),
        number(pair.udr_chance, 2),
        matched or "none",
        "; ".join(alone) or "none",
    )
