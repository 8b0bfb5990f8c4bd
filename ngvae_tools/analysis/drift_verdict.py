"""The drift between two data sets, put together: its verdict in words and the notes that limit it."""

from __future__ import annotations

from collections.abc import Sequence

from ngvae_tools.analysis.comparisons import StoredRows, comparable, compare_dimensions, compare_jointly, smallest_shift
from ngvae_tools.analysis.drift import SETTINGS, DimensionDrift, Drift, DriftSide, JointDrift
from ngvae_tools.analysis.indices import indices
from ngvae_tools.analysis.ranges import Outside
from ngvae_tools.record import AnalysisRecord

_NAMED = 5
"""Dimensions whose differences the verdict tells one by one."""


def drift_between(
    a: AnalysisRecord,
    b: AnalysisRecord,
    rows_a: StoredRows,
    rows_b: StoredRows,
    outside: Outside | None,
    *,
    folders: tuple[str, str],
    seed: int = 0,
) -> Drift:
    """Compare data set B with data set A through the same encoder.

    Args:
        a: Record of the reference.
        b: Record of the new data.
        rows_a: Sample of A's latent file.
        rows_b: Sample of B's latent file.
        outside: Images of B outside A's range.
        folders: Where A and B lie.
        seed: Seed of the joint test.
    """
    dimensions = compare_dimensions(a, b, rows_a, rows_b, outside)
    joint = compare_jointly(rows_a, rows_b, seed)
    sides = (_side(a, folders[0]), _side(b, folders[1]))
    tests = sum(c.corrected is not None for row in dimensions for c in row.comparisons)
    least = smallest_shift(sides[0].n_images, sides[1].n_images, tests)
    differing = tuple(row for row in dimensions if row.differs)
    negligible = tuple(row.index for row in dimensions if row.beyond_chance and not row.differs)
    return Drift(
        verdict=_verdict(differing, negligible, len(dimensions), joint, outside, least, tests),
        differs=bool(differing) or (joint is not None and joint.differs),
        differing=tuple(row.index for row in differing),
        negligible=negligible,
        smallest_shift=least,
        a=sides[0],
        b=sides[1],
        encoder_sha256=a.model.sha256,
        family=a.model.family,
        dimensions=dimensions,
        joint=joint,
        outside=outside,
        settings=dict(SETTINGS),
        notes=tuple(_notes(a, b, rows_a, rows_b, joint, outside)),
    )


def _side(record: AnalysisRecord, folder: str) -> DriftSide:
    data = record.data
    return DriftSide(
        folder,
        data.path,
        data.fingerprint,
        data.n_images - data.n_rejected,
        data.n_rejected,
        record.latents.dimensions,
    )


def _verdict(
    differing: tuple[DimensionDrift, ...],
    negligible: tuple[int, ...],
    dim: int,
    joint: JointDrift | None,
    outside: Outside | None,
    least: float | None,
    tests: int,
) -> str:
    sentences = []
    if differing:
        told = "; ".join(f"{row.index} ({_how(row)})" for row in differing[:_NAMED])
        more = f"; and in {indices(row.index for row in differing[_NAMED:])}" if len(differing) > _NAMED else ""
        sentences.append(f"The data sets differ in {_named(differing)} {told}{more}.")
    if joint is not None and joint.differs and not differing:
        sentences.append(
            "The data sets differ: no dimension alone does, but their joint distribution does "
            f"(p = {joint.test.p_value:.3g}{_pair(joint)})."
        )
    if not sentences and (tests == 0 or least is None):
        sentences.append("Too few images to tell: means and variances need at least two in A and in B.")
    elif not sentences:
        power = (
            ""
            if least is None
            else f"; the smallest shift of a mean that would have been found, four times in five, is {least:.2f} "
            "standard deviations of A"
        )
        matter = " that matters" if negligible else ""
        scope = f"{dim} dimension" if dim == 1 else f"{dim} dimensions"
        sentences.append(f"No difference{matter} beyond chance was found in {scope}{power}.")
    if negligible:
        subject = (
            f"Dimension {negligible[0]} differs" if len(negligible) == 1 else f"Dimensions {indices(negligible)} differ"
        )
        sentences.append(f"{subject} beyond chance, but by a negligible amount.")
    if outside is not None and outside.n_images:
        differs = bool(differing) or (joint is not None and joint.differs)
        sentences.append(_outside(outside, differs=differs))
    return " ".join(sentences)


def _how(row: DimensionDrift) -> str:
    """The differences of a dimension that count, in words; the two that say the most where there are more."""
    words = {
        "mean": "mean {:+.2f} sd",
        "variance": "variance times {:.2f}",
        "distribution": "distance {:.2f}",
        "p": "p moved by {:.2f}",
        "outside": "{:.1%} out of range",
    }
    told = [
        words[c.name].format(c.value) if c.value is not None else "constant in one of them"
        for c in row.comparisons
        if c.differs
    ]
    return ", ".join(list(dict.fromkeys(told))[:2])


def _outside(outside: Outside, *, differs: bool) -> str:
    """The share outside A's range, which is no comfort where the data sets differ within it."""
    number, images, share = outside.n_outside, outside.n_images, outside.share or 0.0
    told = f"{number:,} of {images:,} images of B {'lies' if number == 1 else 'lie'} outside the range seen in A"
    if not number:
        told = "the image of B lies" if images == 1 else f"all {images:,} images of B lie"
        told += " within the range seen in A"
    hidden = "a change within the range does not show in that"
    if differs and share <= outside.by_chance:
        details = f" ({_share(share)}); {hidden}" if number else f"; {hidden}"
    else:
        details = f" ({_share(share)}; by chance up to {_share(outside.by_chance)})" if number else ""
    return f"Taking each dimension alone, {told}{details}."


def _share(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 else "less than 0.1%"


def _pair(joint: JointDrift) -> str:
    if joint.pair is None or joint.correlations is None:
        return ""
    (i, j), (before, after) = joint.pair, joint.correlations
    return f"; the rank correlation that changes most is that of {i} and {j}, from {before:.2f} to {after:.2f}"


def _notes(
    a: AnalysisRecord,
    b: AnalysisRecord,
    rows_a: StoredRows,
    rows_b: StoredRows,
    joint: JointDrift | None,
    outside: Outside | None,
) -> list[str]:
    return [*_notes_on_data(a, b), *_notes_on_files(a, rows_a, rows_b, joint, outside)]


def _notes_on_data(a: AnalysisRecord, b: AnalysisRecord) -> list[str]:
    notes = []
    if a.data.fingerprint == b.data.fingerprint:
        notes.append("A and B are the same data: their fingerprints are equal.")
    if a.data.resize != b.data.resize:
        ways = (a.data.resize or "not", b.data.resize or "not")
        notes.append(f"The images were resized differently: {ways[0]} in A, {ways[1]} in B.")
    for name, record in (("A", a), ("B", b)):
        if record.data.n_rejected:
            notes.append(f"{record.data.n_rejected:,} images of {name} could not be used and are not compared.")
        if record.data.n_images - record.data.n_rejected < 2:
            notes.append(f"{name} holds one image: it has no variance, so means and variances are not tested.")
    if a.model.positions > 1:
        notes.append(
            f"Each image gives {a.model.positions} rows that are not independent: intervals and tests count images, "
            "and one position of each image, drawn at random, enters the distributions."
        )
    constant = [row.index for row in a.dimensions if row.mu_variance == 0]
    if constant:
        notes.append(f"{_dimensions(constant)} constant in A, so a shift there has no unit.")
    return notes


def _notes_on_files(
    a: AnalysisRecord, rows_a: StoredRows, rows_b: StoredRows, joint: JointDrift | None, outside: Outside | None
) -> list[str]:
    notes = []
    shared = set(rows_a.dimensions) & set(rows_b.dimensions)
    alone = sorted(set(rows_a.dimensions) ^ set(rows_b.dimensions))
    if not shared:
        notes.append("No dimension is in both latent files, so distributions and their joint law are not compared.")
    if alone:
        notes.append(
            f"{_dimensions(alone)} in one latent file only and compared by moments alone; encode B with "
            "`select-latents --selection A` to compare in full."
        )
    if outside is None:
        notes.append("B's latent file holds no dimension, so no image can be checked against the range seen in A.")
    coarse = [
        k for k in sorted(shared) if a.dimensions[k].mu_variance is not None and not comparable(k, rows_a, rows_b)
    ]
    if coarse:
        notes.append(f"{_dimensions(coarse)} narrower in A than two steps of a latent file: moments alone compared.")
    if joint is None and shared:
        notes.append("The joint test was not made: no dimension in both latent files varies enough in A.")
    return notes


def _named(rows: tuple[DimensionDrift, ...]) -> str:
    return "dimension" if len(rows) == 1 else "dimensions"


def _dimensions(values: Sequence[int]) -> str:
    return f"Dimension {values[0]} is" if len(values) == 1 else f"Dimensions {indices(values)} are"
