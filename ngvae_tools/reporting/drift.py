"""The drift between two data sets for a terminal of 80 columns; rich is imported where a table is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.analysis.indices import indices
from ngvae_tools.reporting.tables import MARK, add, pairs, paragraph, table, title
from ngvae_tools.reporting.words import ABSENT, count, number, plain, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ngvae_tools.analysis.drift import Comparison, DimensionDrift, Drift, DriftSide
    from ngvae_tools.reporting.facts import Rows

FOLD_ABOVE = 40
"""Number of dimensions above which those without a difference are left out of the tables."""

WORST = 20
"""Images outside the range that the terminal names."""


def render(drift: Drift, *, every: bool = False) -> RenderableType:
    """The verdict first, then the totals, a row a dimension, p where the family has it, and the images outside.

    Args:
        drift: The comparison.
        every: Show a row for each dimension however many there are.
    """
    from rich.console import Group

    quiet = [row.index for row in drift.dimensions if not row.beyond_chance]
    left_out = quiet if len(drift.dimensions) > FOLD_ABOVE and len(quiet) > 1 and not every else []
    rows = [row for row in drift.dimensions if row.index not in left_out]
    parts: list[RenderableType] = [
        title(drift.verdict),
        pairs(totals_rows(drift)),
        *(paragraph(f"Note: {plain(note)}") for note in drift.notes),
        title("Dimensions"),
        dimension_table(rows),
        paragraph(
            f"{MARK} differs beyond chance and beyond negligible; + beyond chance only. Intervals are of 95 %. "
            "sd: standard deviation in A. Out of range: images of B beyond all of A in that dimension."
        ),
        *(paragraph(sentence) for sentence in _absent(rows)),
    ]
    if left_out:
        text = f"{len(left_out)} dimensions without a difference left out, --every shows them: {indices(left_out)}."
        parts.append(paragraph(text))
    if any(row.get("p_mean") is not None for row in rows):
        parts += [title("p (near 0 = informative)"), p_table(rows)]
    if drift.outside is not None and drift.outside.worst:
        parts += [title("Images outside the range seen in A"), outside_table(drift)]
        unnamed = drift.outside.n_outside - min(len(drift.outside.worst), WORST)
        if unnamed:
            parts.append(paragraph(f"{count(unnamed)} more; --json names up to {count(1000)}, the farthest first."))
    return Group(*parts)


def totals_rows(drift: Drift) -> Rows:
    """What was compared, the joint test and the share of images outside, a label and a text each."""
    rows = [("A, the reference", _side(drift.a)), ("B, the new data", _side(drift.b))]
    differing = f"{len(drift.differing)} of {len(drift.dimensions)}: {indices(drift.differing)}"
    rows.append(("Dimensions that differ", differing))
    rows.append(("Negligible differences", indices(drift.negligible)))
    if drift.joint is not None:
        test = drift.joint.test
        text = f"p = {test.p_value:.3g}, coefficient {number(test.coefficient)}, {test.rows[0]} and {test.rows[1]} rows"
        text = f"{'differs' if drift.joint.differs else 'no difference'}: {text}"
        rows.append(("Joint energy test", text))
        if drift.joint.pair is not None and drift.joint.correlations is not None:
            (i, j), (before, after) = drift.joint.pair, drift.joint.correlations
            change = f"dimensions {i} and {j}: {before:.2f} in A, {after:.2f} in B"
            rows.append(("Largest change of rank correlation", change))
    if drift.outside is not None and drift.outside.share is not None:
        outside = drift.outside
        limits = "" if outside.interval is None else f" ({outside.interval[0]:.2%} to {outside.interval[1]:.2%})"
        text = f"{count(outside.n_outside)} of {count(outside.n_images)}, {outside.share:.2%}{limits}"
        rows.append(("Outside the range of A", text))
    if drift.smallest_shift is not None:
        rows.append(("Smallest shift found (80 %)", f"{drift.smallest_shift:.2f} sd"))
    return rows


def dimension_table(rows: list[DimensionDrift]) -> RenderableType:
    """A row a dimension: the four numbers with their intervals below, and the images outside A's range."""
    heads = ["", "dim.", "shift of\nmean (sd)", "variance\nratio", "KS\ndistance", "Wasserstein\n(sd)", "out of\nrange"]
    result = table(heads, left=2, padding=(0, 1, 0, 0))
    for row in rows:
        mark = MARK if row.differs else "+" if row.beyond_chance else ""
        numbers = [_cell(row.get(name)) for name in ("mean", "variance", "distribution", "wasserstein")]
        outside = row.get("outside")
        share = ABSENT if outside is None or outside.value is None else f"{outside.value:.1%}"
        add(result, mark, str(row.index), *numbers, share, style="bold" if row.differs else "")
    return result


def p_table(rows: list[DimensionDrift]) -> RenderableType:
    """A row a dimension: how far mean p moved, and the distance of the histograms of p."""
    result = table(["", "dim.", "shift of mean p", "distance of histograms", "corrected p value"], left=2)
    for row in rows:
        histogram = row.get("p")
        mark = "" if histogram is None else MARK if histogram.differs else "+" if histogram.beyond_chance else ""
        numbers = [] if histogram is None else [number(histogram.value), number(histogram.corrected)]
        add(result, mark, str(row.index), _cell(row.get("p_mean"), digits=3, apart=" "), *(numbers or [ABSENT, ABSENT]))
    return result


def outside_table(drift: Drift) -> RenderableType:
    """The images farthest outside the range of A, at most `WORST`."""
    result = table(["image", "dimension", "mu", "beyond (sd)"], left=1)
    for image in drift.outside.worst[:WORST] if drift.outside is not None else ():
        add(result, plain(image.identifier), str(image.dimension), number(image.value), number(image.distance))
    return result


def _absent(rows: list[DimensionDrift]) -> Iterator[str]:
    """Why cells are n/a."""
    apart = [row.index for row in rows if not row.in_both]
    if apart:
        yield (
            f"{ABSENT} in {indices(apart)}: not in both latent files, which hold the informative dimensions, so mean "
            "and variance alone are compared."
        )
    moments = [row.index for row in rows if None in (_value(row, "mean"), _value(row, "variance"))]
    if moments:
        yield f"{ABSENT} of mean or variance in {indices(moments)}: constant in A, or fewer than two images."


def _side(side: DriftSide) -> str:
    rejected = f", {count(side.n_rejected)} rejected" if side.n_rejected else ""
    return f"{plain(side.folder)}: {plural(side.n_images, 'image', 'images')}{rejected} of {plain(side.data)}"


def _value(row: DimensionDrift, name: str) -> float | None:
    found = row.get(name)
    return None if found is None else found.value


def _cell(comparison: Comparison | None, *, digits: int = 2, apart: str = "\n") -> str:
    if comparison is None or comparison.value is None:
        return ABSENT
    limits = comparison.interval
    below = "" if limits is None else f"{apart}[{_fixed(limits[0], digits)}, {_fixed(limits[1], digits)}]"
    return f"{_fixed(comparison.value, digits)}{below}"


def _fixed(value: float, digits: int) -> str:
    """A number in few columns: small ones are zero here, as what they compare is of the order of one."""
    # Adding zero to what was rounded takes the sign from a negative zero.
    return f"{round(value, digits) + 0.0:.{digits}f}" if abs(value) < 100 else f"{value:.1e}"
