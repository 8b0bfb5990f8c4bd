"""Where a count of informative dimensions holds while the noise level changes; stdlib only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from ngvae_tools.sweep_record import Plateau

LEAST_FACTOR = 1.5
"""A plateau's greatest sigma over its least, at least."""

EQUALLY_WIDE = 0.02
"""Widths that differ by less than this share are equal: levels are rounded, and their places are the user's choice."""

_ROUNDING = 1e-9


def widest_plateaus(sigmas: Sequence[float], counts: Sequence[int | None], latent_dim: int) -> tuple[Plateau, ...]:
    """The plateaus of a count over sigma that are widest on a logarithmic axis.

    A plateau is a longest run of adjacent levels, in order of sigma, that have equal counts; it has at least two
    levels, its greatest sigma is at least `LEAST_FACTOR` times its least, and its count is neither 0 nor K: a model
    that has collapsed, or used all it has, says nothing of the data. A level without a count ends a run. The width
    is that between the outermost levels themselves: nothing is known of what lies between two levels that differ.

    Args:
        sigmas: Levels, different numbers above 0 in any order, length n.
        counts: Number of informative dimensions at each level, None where there is none, length n.
        latent_dim: Number K of latent dimensions.

    Returns:
        Every plateau of the greatest width, least sigma first: none where no run qualifies, several where the
        widest are equally wide, within `EQUALLY_WIDE`.
    """
    levels = sorted(zip(sigmas, counts, strict=True), key=lambda level: level[0])
    found = []
    for count, group in groupby(levels, key=lambda level: level[1]):
        run = [sigma for sigma, _ in group]
        if count is not None and 0 < count < latent_dim and run[-1] >= LEAST_FACTOR * run[0] * (1 - _ROUNDING):
            found.append(Plateau(count, run[0], run[-1], len(run)))
    widest = max((math.log(plateau.factor) for plateau in found), default=0.0)
    return tuple(plateau for plateau in found if math.log(plateau.factor) >= widest * (1 - EQUALLY_WIDE))
