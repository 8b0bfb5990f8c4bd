"""stability: whether several models of the same data keep the same dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from ngvae_tools.analysis.stability import LEAST, ModelSample, PairStability, Stability, compare_pair, stability_of
from ngvae_tools.errors import RecordError
from ngvae_tools.reporting.sources import NamedAnalysis
from ngvae_tools.workflows.latent_sample import check_latents, sample_latents

MOST = 12
"""Analyses that are matched with each other at most; every pair takes its time."""


def stability(analyses: Sequence[NamedAnalysis]) -> Stability | None:
    """Match the informative dimensions of several analyses; None for fewer than two.

    Only analyses of the same data are matched, image by image, on a sample of at most 20,000 that depends on the
    identifiers alone. What cannot be compared is told in `notes`.
    """
    if len(analyses) < 2:
        return None
    notes: list[str] = []
    counts = [(named.name, named.record.selection.indices) for named in analyses]
    if len(analyses) > MOST:
        notes.append(f"Dimensions of {len(analyses)} analyses are not matched: name at most {MOST} of them.")
        return stability_of(counts, [], notes)
    samples = {named.name: _sample(named, notes) for named in analyses}
    pairs: list[PairStability] = []
    apart: list[str] = []
    for one, other in combinations(analyses, 2):
        x, y = samples[one.name], samples[other.name]
        if one.record.data.fingerprint != other.record.data.fingerprint:
            apart.append(f"{one.name} and {other.name}")
        elif x is not None and y is not None and x.dimensions and y.dimensions:
            pair = compare_pair(x, y)
            if pair is None:
                notes.append(f"{one.name} and {other.name} share fewer than {LEAST} images and are not matched.")
            else:
                pairs.append(pair)
    if apart:
        notes.append(
            f"Dimensions are matched image by image, and these did not see the same data: {'; '.join(apart)}. Run "
            "select-latents with each model on one data set."
        )
    same = [
        f"{a.name} and {b.name}" for a, b in combinations(analyses, 2) if a.record.model.sha256 == b.record.model.sha256
    ]
    if same:
        notes.append(f"The same encoder made {'; '.join(same)}: their agreement says nothing about training.")
    return stability_of(counts, pairs, notes)


def _sample(named: NamedAnalysis, notes: list[str]) -> ModelSample | None:
    """The sample of one analysis; None, and a note, where it has none."""
    path, positions = named.folder / named.record.latents.file, named.record.model.positions
    if not named.record.selection.indices:
        notes.append(f"{named.name} has no informative dimension to match.")
        return None
    if positions > 1:
        notes.append(f"{named.name} has a spatial latent of {positions} positions, whose dimensions are not matched.")
        return None
    try:
        check_latents(path, named.record)
        rows, images = sample_latents(path)
    except RecordError as error:
        notes.append(f"{named.name} cannot be matched: {error.problem} (found {error.found}).")
        return None
    # A file may keep the other dimensions too.
    chosen = [k for k, dimension in enumerate(rows.dimensions) if named.record.selection.informative[dimension]]
    return ModelSample(named.name, tuple(rows.dimensions[k] for k in chosen), images, rows.values[:, chosen])
