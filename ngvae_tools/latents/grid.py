"""Quantising latents in steps that follow the model's own posterior noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OutputError

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DISTORTION = 0.01
"""Mean squared error of quantisation as a share of the posterior variance."""

STEP_BITS = 20
"""Bits of a step's mantissa: a whole number of steps below 2**32 is then exact in float64."""

MOST_STEPS = 2**32
"""Steps from 0 to a value, and between two values of a dimension, at most."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Whole multiples of a step, which values are rounded to.

    Attributes:
        step: Width of a step of each dimension, shape (d,).
    """

    step: Array

    @classmethod
    def fit(cls, noise: Array, low: Array, high: Array, distortion: float = DISTORTION) -> Grid:
        """Steps sqrt(12 distortion) * sd of the noise, whose error has the variance distortion * noise.

        Args:
            noise: Variance that the error is measured by: the mean posterior variance, shape (d,).
            low: Smallest value of each dimension, shape (d,).
            high: Largest value of each dimension, shape (d,).
            distortion: Added error as a share of that variance.

        Raises:
            OutputError: A noise is 0 or not finite, although the dimension varies.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            step = _short(np.sqrt(12 * distortion * np.asarray(noise, dtype=np.float64)))
        # A constant dimension needs no step; one is taken of which its value is a multiple.
        constant = (low == high) & ~(np.isfinite(step) & (step > 0))
        exact = np.ldexp(1.0, np.frexp(np.asarray(low, dtype=np.float64))[1] - 24)
        step = np.where(constant, np.where(low == 0, 1.0, exact), step)
        if not (np.isfinite(step) & (step > 0)).all():
            raise _too_fine("a posterior variance of 0" if (step == 0).any() else "a posterior variance of infinity")
        return cls(step)

    def numbers(self, values: npt.NDArray[np.floating]) -> Integers:
        """The nearest multiples of the step, as whole numbers, both (n, d).

        Raises:
            OutputError: A value is too many steps away from 0.
        """
        with np.errstate(over="ignore"):
            found = np.rint(np.asarray(values, dtype=np.float64) / self.step)
        # A comparison that NaN fails.
        if found.size and not max(found.max(), -found.min()) < MOST_STEPS:
            raise _too_fine(f"{np.abs(found).max():.3g} steps from 0 to a value")
        return found.astype(np.int64)


def _short(step: Array) -> Array:
    mantissa, exponent = np.frexp(step)
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, STEP_BITS)), exponent - STEP_BITS))


def _too_fine(found: str) -> OutputError:
    return OutputError(
        "the latents cannot be quantised",
        expected="values of mu below 2**32 steps of its posterior's noise",
        found=found,
        remedy="check the encoder, whose posterior variance does not fit the range of mu, or pass --lossless",
    )
