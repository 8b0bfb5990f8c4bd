"""What dropping latent dimensions costs: images decoded with some dimensions held at their mean; numpy only.

Shapes: n images (n, H, W, C) in [0, 1], K latent dimensions. Errors are mean squared errors of an image's values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.record import TruncationCurve

Array = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]
Decode = Callable[[npt.NDArray[np.float32]], Images]

BATCH = 32
BATCH_BYTES = 2**25
"""Images that one batch holds at most, and their bytes: every batch is decoded about 5 K times, and not kept."""

SMALLEST_STEP = 1e-3
"""Least step of a finite difference, relative to the largest |mu_k|: float32 images cannot resolve a smaller one."""

KNEE_DISTANCE = 0.05
"""Least distance from the chord, both axes scaled to one, that makes a knee."""


@dataclass(frozen=True, slots=True)
class TruncationCost:
    """What was measured; the fields of `ngvae_tools.record.Truncation` less the decoder's."""

    by_information: TruncationCurve | None
    by_relevance: TruncationCurve
    relevance: tuple[float, ...]
    effect: tuple[float, ...]
    sensitivity: tuple[float, ...]


def truncation_cost(
    images: Images,
    mu: npt.NDArray[np.floating],
    mean: Array,
    posterior_std: Array | None,
    information: Array | None,
    decode: Decode,
) -> TruncationCost:
    """Measure what dropping each dimension, and all of the less important ones, costs.

    Args:
        images: A bounded sample of images, in [0, 1], shape (n, H, W, C).
        mu: Their posterior means, shape (n, K).
        mean: Mean of mu over the data set, where a dropped dimension is held, shape (K,).
        posterior_std: Mean posterior standard deviation, shape (K,); None for deterministic codes.
        information: I(x; z_k), shape (K,); None, or not finite somewhere, where it is not defined.
        decode: Images (b, H, W, C) for latents (b, K), float32.

    Returns:
        Curves, relevance, effect and sensitivity. The cost is about 5 K decodings of the sample.
    """
    latent_dim = mu.shape[1]
    measured = _Measured(images, mu.astype(np.float32), mean.astype(np.float32), decode)
    every = tuple(range(latent_dim))
    by_information = None if information is None or not np.isfinite(information).all() else _descending(information)
    prefixes = [] if by_information is None else _prefixes(by_information)
    measured.measure([every, *(_without(every, k) for k in every), *prefixes])
    relevance = [float((measured.error(_without(every, k)) - measured.error(every)).mean()) for k in every]
    by_relevance = _descending(np.array(relevance))
    measured.measure(_prefixes(by_relevance))
    return TruncationCost(
        by_information=None if by_information is None else measured.curve(by_information),
        by_relevance=measured.curve(by_relevance),
        relevance=tuple(relevance),
        effect=tuple(float(measured.change(_without(every, k)).mean()) for k in every),
        sensitivity=tuple(measured.sensitivity(_steps(mu, posterior_std))),
    )


def knee_of(errors: Array) -> int | None:
    """Number of dimensions at the knee of a curve: where it lies furthest below the chord of its ends.

    Both axes are scaled to one, as in Kneedle (Satopaa et al. 2011). None with fewer than three dimensions, where
    the error does not fall by more than two standard errors of the fall, or where the curve stays within
    `KNEE_DISTANCE` of its chord.

    Args:
        errors: Error of each image with n = 0 to K dimensions kept, shape (K + 1, n).
    """
    latent_dim = len(errors) - 1
    fall = errors[0] - errors[-1]
    noise = 2 * fall.std(ddof=1) / math.sqrt(len(fall)) if len(fall) > 1 else 0.0
    curve = errors.mean(axis=1)
    if latent_dim < 3 or not fall.mean() > max(noise, 1e-6 * curve[0]):
        return None
    kept = np.arange(latent_dim + 1) / latent_dim
    below = 1 - kept - (curve - curve[-1]) / (curve[0] - curve[-1])
    return int(below.argmax()) if below.max() > KNEE_DISTANCE else None


class _Measured:
    """Errors of the sample, image by image, for each set of dimensions that was kept."""

    def __init__(
        self, images: Images, mu: npt.NDArray[np.float32], mean: npt.NDArray[np.float32], decode: Decode
    ) -> None:
        self._images, self._mu, self._mean, self._decode = images, mu, mean, decode
        self._errors: dict[tuple[int, ...], Array] = {}
        self._changes: dict[tuple[int, ...], Array] = {}
        self._batch = max(1, min(BATCH, BATCH_BYTES // max(1, images[:1].nbytes)))

    def measure(self, sets: Iterable[Sequence[int]]) -> None:
        """Decode the sample with each set of dimensions kept, one small batch of images after the other."""
        new = sorted({tuple(sorted(kept)) for kept in sets} - self._errors.keys())
        for kept in new:
            self._errors[kept] = np.empty(len(self._images))
            self._changes[kept] = np.empty(len(self._images))
        for part in self._parts():
            images, mu = self._images[part], self._mu[part]
            whole = self._decode(mu)
            for kept in new:
                z = np.tile(self._mean, (len(mu), 1))
                z[:, list(kept)] = mu[:, list(kept)]
                # With nothing kept every image is the same one.
                decoded = self._decode(z[:1] if not kept else z)
                self._errors[kept][part] = _mean_square(images - decoded)
                self._changes[kept][part] = _mean_square(decoded - whole)

    def error(self, kept: Sequence[int]) -> Array:
        """Mean squared error of each image, shape (n,)."""
        return self._errors[tuple(sorted(kept))]

    def change(self, kept: Sequence[int]) -> Array:
        """Mean squared change of each decoded image against the one of all dimensions, shape (n,)."""
        return self._changes[tuple(sorted(kept))]

    def curve(self, order: tuple[int, ...]) -> TruncationCurve:
        """The curve of an order whose prefixes have been measured."""
        errors = np.stack([self.error(kept) for kept in _prefixes(order)])
        count = errors.shape[1]
        spread = errors.std(axis=1, ddof=1) / math.sqrt(count) if count > 1 else None
        return TruncationCurve(
            order=order,
            error=tuple(errors.mean(axis=1).tolist()),
            standard_error=None if spread is None else tuple(spread.tolist()),
            knee=knee_of(errors),
        )

    def sensitivity(self, steps: Array) -> Iterator[float]:
        """Root mean square of the central differences of all values, for one dimension after the other."""
        for k, step in enumerate(steps):
            total = 0.0
            for part in self._parts():
                upper, lower = self._mu[part].copy(), self._mu[part].copy()
                upper[:, k] += step
                lower[:, k] -= step
                squares = _mean_square(self._decode(upper) - self._decode(lower))
                # The step as float32 could take it.
                taken = upper[:, k].astype(np.float64) - lower[:, k]
                total += float((squares / taken**2).sum())
            yield math.sqrt(total / len(self._images))

    def _parts(self) -> Iterator[slice]:
        for start in range(0, len(self._images), self._batch):
            yield slice(start, start + self._batch)


def _steps(mu: npt.NDArray[np.floating], posterior_std: Array | None) -> Array:
    """Step of each dimension's finite difference: its posterior standard deviation, that of mu without one.

    A step too small for float32 is made larger, and a dimension that never moves is moved by one.
    """
    values = mu.astype(np.float64)
    steps = values.std(axis=0) if posterior_std is None else np.asarray(posterior_std, dtype=np.float64)
    steps = np.maximum(steps, SMALLEST_STEP * np.abs(values).max(axis=0))
    return np.where(steps > 0, steps, 1.0)


def _mean_square(difference: npt.NDArray[np.floating]) -> Array:
    """Mean over an image's values of their squares, in float64, shape (b,)."""
    flat = difference.reshape(len(difference), -1)
    return np.asarray(np.einsum("bi,bi->b", flat, flat, dtype=np.float64) / flat.shape[1])


def _descending(values: Array) -> tuple[int, ...]:
    return tuple(int(k) for k in np.argsort(-values, kind="stable"))


def _prefixes(order: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(order[:n]) for n in range(len(order) + 1)]


def _without(every: Sequence[int], k: int) -> tuple[int, ...]:
    return tuple(i for i in every if i != k)
