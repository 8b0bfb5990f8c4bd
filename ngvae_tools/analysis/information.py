"""Information I(x; z_k) that each latent dimension carries about the image, in nats, with its standard error.

I(x; z_k) = H(aggregate posterior) - mean of H(q(z_k | x)) (SCIENCE.md section 5; Hoffman and Johnson 2016), which is
the mean over images of KL(q(z_k | x) || aggregate posterior). It does not change when z_k is rescaled and is
defined for every family with a density, so it decides where p and reality disagree.

The aggregate posterior is the mixture of the posteriors of a sample of rows. Rows are grouped by their second head;
within a group the posterior is one law shifted by mu, so the mixture is a convolution on a fine grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.sample import Sample
from ngvae_tools.posteriors import PosteriorFamily

Array = npt.NDArray[np.float64]
Law = Callable[[Array, float], Array]

GROUPS = 32
"""Groups of rows with nearly the same second head."""

STEPS = 16
"""Steps of the grid in the width of the narrowest group's posterior."""

LARGEST_GRID = 2**16

OUTLIERS, FAR = 0.001, 10
"""Share of the rows on each side that may be moved, and the distance that is left between them and the others, in
ranges of the others."""

REACH = 12
"""Widths on both sides at which a posterior is cut off at the least; the Student-t laws have mass 1e-7 beyond."""

TAIL = 1e-5
"""Density times distance to the mean at which a posterior may be cut off: the order of the mass beyond."""

REMAINDER = 1 / 3
"""Share of the correction for the finite sample that is missing after it, measured on Gaussian channels."""

LIMITED = 0.02
"""Doubt in nats above which the sample or the grid does not resolve the posteriors."""


@dataclass(frozen=True, slots=True)
class Information:
    """Information of each dimension over a sample of M rows.

    Attributes:
        nats: I(x; z_k), shape (K,).
        error: Standard error of `nats`, over images; what the finite sample and the grid leave in doubt is added
            in quadrature. Shape (K,).
        gain: KL(q(z_k | x) || aggregate posterior) of each row, in nats, shape (M, K); `nats` is its mean.
        limited: Whether the sample or the grid does not resolve the posteriors, so that `nats` is a lower bound, (K,).
    """

    nats: Array
    error: Array
    gain: Array
    limited: npt.NDArray[np.bool_]


def information(sample: Sample, family: PosteriorFamily, positions: int = 1) -> Information | None:
    """Information of every dimension from a sample; None for deterministic codes and for fewer than two images.

    Args:
        sample: Rows of posterior heads.
        family: What the heads mean.
        positions: Rows that one image gives; rows of one image are not independent, the error allows for it.
    """
    image = sample.row // positions
    if sample.second is None or image[0] == image[-1]:
        return None
    dim = sample.mu.shape[1]
    gain, error, limited = np.empty(sample.mu.shape), np.empty(dim), np.empty(dim, dtype=bool)
    for k in range(dim):
        law: Law = lambda offset, value, k=k: family.density(offset, value, k)  # type: ignore[misc] # noqa: E731
        mu, second = (head[:, k].astype(np.float64) for head in (sample.mu, sample.second))
        gain[:, k], doubt, limited[k] = _gains(mu, second, law)
        error[k] = np.hypot(_clustered_error(gain[:, k], image), doubt)
    return Information(np.maximum(gain.mean(axis=0), 0.0), error, gain, limited)


def _gains(mu: Array, second: Array, law: Law) -> tuple[Array, float, bool]:
    """KL of each row's posterior from the mixture of all, corrected for the finite sample; doubt; whether limited."""
    from scipy.fft import irfft, next_fast_len, rfft

    groups = np.array_split(np.argsort(second, kind="stable"), min(GROUPS, len(mu)))
    widths, reaches = np.array([_extent(law, second[rows].mean()) for rows in groups]).T
    mu = _drawn_in(mu, reaches.max())
    low, high = mu.min(), mu.max()
    span = high - low + 2 * reaches.max()
    if not span > 0:
        return np.zeros(len(mu)), 0.0, False
    step = max(widths.min() / STEPS, span / LARGEST_GRID)
    core, reach = int((high - low) / step) + 2, int(np.ceil(reaches.max() / step))
    size = next_fast_len(core + 4 * reach, real=True)
    offset = step * np.arange(-reach, reach + 1)
    cell = ((mu - low) / step).astype(np.int64)
    part = (mu - low) / step - cell

    def at_rows(values: Array, rows: npt.NDArray[np.intp]) -> Array:
        """Values on the core grid, at the rows' mu."""
        return np.asarray((1 - part[rows]) * values[cell[rows]] + part[rows] * values[cell[rows] + 1])

    # All densities are masses of a cell, so that no scale of z over- or underflows.
    kernels = [
        _kernel(law, offset, second[rows].mean(), width, step) for rows, width in zip(groups, widths, strict=True)
    ]
    spectrum = np.zeros(size // 2 + 1, dtype=np.complex128)
    for rows, kernel in zip(groups, kernels, strict=True):
        counts = np.bincount(cell[rows], 1 - part[rows], core) + np.bincount(cell[rows] + 1, part[rows], core)
        spectrum += rfft(counts, size) * rfft(kernel, size)
    density = irfft(spectrum, size)[: core + 2 * reach] / len(mu)
    # Rounding of the transform leaves noise far below the density of any row.
    density = np.maximum(density, 1e-9 * density.max())
    surprise, inverse = rfft(-np.log(density), size), rfft(1 / density, size)
    gain, excess = np.empty(len(mu)), np.empty(len(mu))
    for rows, kernel in zip(groups, kernels, strict=True):
        entropy = -float((kernel * np.log(np.where(kernel > 0, kernel, 1.0))).sum())
        cross = irfft(surprise * rfft(kernel, size), size)[2 * reach : 2 * reach + core]
        gain[rows] = at_rows(cross, rows) - entropy
        overlap = irfft(inverse * rfft(kernel * kernel, size), size)[2 * reach : 2 * reach + core]
        excess[rows] = at_rows(overlap, rows)
    # The entropy of a mixture of M laws falls short by (E[integral of q_i^2 / q] - 1) / 2M (delta method).
    correction = max(float(excess.mean()) - 1, 0.0) / (2 * len(mu))
    # Sharing each mu out to two points of the grid adds to its variance.
    doubt = float(np.hypot(REMAINDER * correction, (step / max(widths.min(), step)) ** 2 / 12))
    return gain + correction, doubt, doubt > LIMITED


def _drawn_in(mu: Array, reach: float) -> Array:
    """Rows far outside all others moved nearer: still apart from them, but not so far that the grid becomes coarse."""
    ends = np.quantile(mu, OUTLIERS, method="higher"), np.quantile(mu, 1 - OUTLIERS, method="lower")
    low, high = min(ends), max(ends)
    room = FAR * (high - low) + 2 * reach
    return np.clip(mu, low - room, high + room)


def _extent(law: Law, second: float) -> tuple[float, float]:
    """Width of a posterior, that of a normal law with as high a peak, and the distance at which it may be cut off."""
    with np.errstate(over="ignore", invalid="ignore"):
        peak = float(law(np.zeros(1), second)[0])
    if not np.isfinite(peak):
        return 0.0, 0.0
    width = 1 / (np.sqrt(2 * np.pi) * peak)
    reach = REACH * width
    while reach * float(law(np.array([reach]), second)[0]) > TAIL:
        reach *= 2
    return width, reach


def _kernel(law: Law, offset: Array, second: float, width: float, step: float) -> Array:
    """The posterior around its mean on the grid, with mass one; all in one cell where it is narrower than that."""
    if width < step / 4:
        kernel = np.zeros(len(offset))
        kernel[len(offset) // 2] = 1.0
    else:
        kernel = law(offset, second)
    return np.asarray(kernel / kernel.sum())


def _clustered_error(gain: Array, image: npt.NDArray[np.int64]) -> float:
    """Standard error of the mean of rows (M,) of which those of one image, in ascending order, belong together."""
    starts = np.flatnonzero(np.diff(image, prepend=-1))
    sums = np.add.reduceat(gain - gain.mean(), starts)
    return float(np.sqrt((sums * sums).sum()) / len(gain))
