"""A sample of a latent file's rows as points in the plane in which they spread most."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.blas import one_blas_thread
from ngvae_tools.analysis.moments import Moments
from ngvae_tools.analysis.overview import Plane, principal_plane
from ngvae_tools.datasets.base import evenly_spaced
from ngvae_tools.latents.neighbours import weights_of
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.reporting.pictures import Colouring
from ngvae_tools.reporting.words import plain, shortened
from ngvae_tools.workflows.latent_map import POINTS, colourings, units_of
from ngvae_tools.workflows.originals import identifiers_at, labels_at

COLOURINGS = 64
"""Labels and kept dimensions that points may be coloured by at most."""

NAME_LENGTH = 200
"""Characters of a name that are shown at most."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A map of m images of a latent file, the same as in a report.

    Attributes:
        plane: Where a row of d values lies on the map; None where rows do not vary.
        units: What each latent is counted in there.
        rows: Rows of the file, ascending, shape (m,).
        values: Their values, shape (m, d).
        names: Their identifiers as they are shown.
        colourings: Known factors of theirs, then the kept dimensions.
    """

    plane: Plane | None
    units: str
    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    names: tuple[str, ...]
    colourings: tuple[Colouring, ...]


def chart_of(file: LatentFile) -> Chart:
    """The map of a latent file that is not spatial.

    Raises:
        RecordError: The file is damaged.
    """
    rows = np.array(evenly_spaced(len(file), POINTS), np.int64)
    values = file[rows].astype(np.float64)
    moments = Moments.empty(file.shape[1])
    with one_blas_thread():
        for block, _ in file.chunks():
            moments = moments.update(block)
    return Chart(
        plane=principal_plane(moments, weights_of(file)),
        units=units_of(file),
        rows=rows,
        values=values,
        names=tuple(shown_name(identifier) for identifier in identifiers_at(file, rows).tolist()),
        colourings=colourings(file, labels_at(file, rows), values)[:COLOURINGS],
    )


def shown_name(identifier: bytes | int) -> str:
    """What to call an image: its path as text that is safe to show, cut where it is very long, or its number."""
    text = plain(os.fsdecode(identifier)) if isinstance(identifier, bytes) else f"image {identifier}"
    return shortened(text, NAME_LENGTH)
