"""What moving one latent dimension alone does to the decoder's image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ngvae_tools.record import AnalysisRecord, DimensionStatistics
from ngvae_tools.reporting.pictures import Traversal
from ngvae_tools.workflows.decoding import Decoding, expanded
from ngvae_tools.workflows.thumbnails import small

FRAMES = 11
"""Images of one traversal; odd, so that there is one in the middle."""

SHARES = (0.01, 0.99)
"""Quantiles of mu over the data between which an informative dimension is moved."""

OTHERS = 3
"""Uninformative dimensions that are moved, too."""

DEVIATIONS = 3.0
"""Standard deviations of the posterior on either side of its mean that an uninformative dimension is moved."""

Floats = npt.NDArray[np.floating]


def uninformative(record: AnalysisRecord, among: Sequence[int], count: int = OTHERS) -> list[int]:
    """The dimensions whose verdict was closest, of those that are not informative: if any does something, these do.

    Args:
        record: The analysis.
        among: Dimensions that can be moved.
        count: How many at most.
    """
    rule = record.selection
    others = [k for k in among if not rule.informative[k]]
    return sorted(sorted(others, key=lambda k: (abs(rule.score[k] - rule.threshold), k))[:count])


def posterior_span(row: DimensionStatistics) -> tuple[float, float]:
    """Where images put an uninformative dimension: the mean of mu and three standard deviations of the posterior.

    This is what the decoder was fed in training, and about three standard deviations of the prior. For codes without a
    posterior it is the range of mu, or one unit on either side of a constant one.
    """
    if row.posterior_variance is not None:
        reach = DEVIATIONS * math.sqrt(max(row.posterior_variance, 0.0))
        if reach > 0:
            return row.mu_mean - reach, row.mu_mean + reach
    if row.mu_high > row.mu_low:
        return row.mu_low, row.mu_high
    return row.mu_mean - 1, row.mu_mean + 1


def ranges(record: AnalysisRecord) -> str:
    """From where to where dimensions are moved, a sentence."""
    low, high = (f"{100 * share:g}" for share in SHARES)
    codes = all(row.posterior_variance is None for row in record.dimensions)
    reach = f"{DEVIATIONS:g} standard deviations of its posterior on either side of the mean of mu"
    return (
        f"An informative dimension moves from percentile {low} to percentile {high} of mu over the data, an "
        f"uninformative one {'over the range of mu' if codes else reach}."
    )


def traversal(
    decoding: Decoding,
    base: Floats,
    dimension: int,
    span: tuple[float, float],
    *,
    informative: bool,
    longest: int,
) -> Traversal:
    """Decode the images of a dimension's values, equally spaced.

    Args:
        decoding: The decoder.
        base: Latents as `whole_latents` makes them, of the image whose other dimensions are held.
        dimension: The dimension.
        span: Its first and last value.
        informative: Whether the record's rule calls it so.
        longest: Pixels of a frame's longer side at most.

    Raises:
        ContractError: The decoder fails at such latents.
    """
    values = np.linspace(*span, FRAMES)
    latents = np.repeat(base[None], FRAMES, axis=0)
    latents[:, column_of(decoding, dimension)] = values
    images = np.clip(decoding.session.decode(latents), 0, 1)
    squares = ((images - images[FRAMES // 2]).astype(np.float64) ** 2).reshape(FRAMES, -1)
    return Traversal(
        dimension=dimension,
        informative=informative,
        values=tuple(values.tolist()),
        frames=small(images, longest),
        change=tuple(np.sqrt(squares.mean(axis=1)).tolist()),
    )


def whole_latents(decoding: Decoding, kept: Floats) -> npt.NDArray[np.float32]:
    """What the decoder takes for one row (d,) of the kept dimensions of a latent without positions."""
    values = np.asarray(kept, np.float32)
    if decoding.kept_only:
        return values.copy()
    return np.asarray(expanded(values.reshape(1, 1, -1), decoding.origin).reshape(-1), np.float32)


def column_of(decoding: Decoding, dimension: int) -> int:
    """Which of the decoder's latents a dimension is."""
    return decoding.origin.dimensions.index(dimension) if decoding.kept_only else dimension
