"""Quantising latents in steps that follow the model's own posterior noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OutputError

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.unsignedinteger]

DISTORTION = 0.01
"""Mean squared error of quantisation as a share of the posterior variance."""


@dataclass(frozen=True, slots=True)
class UniformQuantiser:
    """value = offset + step * code, one step and offset a dimension.

    Attributes:
        step: Width of a level, shape (d,).
        offset: Value of code 0, shape (d,).
        levels: Number of levels of the dimension with most, which decides the codes' type.
    """

    step: Array
    offset: Array
    levels: int

    @classmethod
    def fit(
        cls, posterior_variance: Array, low: Array, high: Array, distortion: float = DISTORTION
    ) -> UniformQuantiser:
        """Steps sqrt(12 distortion) * posterior sd, whose error has variance distortion * posterior variance.

        Args:
            posterior_variance: Mean posterior variance of each dimension, shape (d,).
            low: Smallest value of each dimension, shape (d,).
            high: Largest value of each dimension, shape (d,).
            distortion: Added error as a share of the posterior variance.

        Raises:
            OutputError: A dimension would need more than 2**32 levels, or its posterior variance is 0.
        """
        step = np.sqrt(12 * distortion * np.asarray(posterior_variance, dtype=np.float64))
        # A constant dimension needs no step; one is kept so that its value can be read back.
        step = np.where((step == 0) & (high == low), 1.0, step)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            intervals = float(np.ceil((high - low) / step).max(initial=0.0))
        # A comparison that NaN fails.
        if not intervals < 2**32:
            raise OutputError(
                "the latents cannot be quantised",
                expected="a range of mu below 2**32 steps of its posterior",
                found="a posterior variance of 0" if not step.all() else f"{intervals:.3g} steps",
                remedy="check the encoder: its posterior variance is far too small for the range of mu",
            )
        return cls(step, np.asarray(low, dtype=np.float64), int(intervals) + 1)

    def tiled(self, times: int) -> UniformQuantiser:
        """The same steps and offsets for `times` columns groups of d dimensions each."""
        return UniformQuantiser(np.tile(self.step, times), np.tile(self.offset, times), self.levels)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Smallest unsigned type that holds every code."""
        return np.dtype(np.min_scalar_type(max(self.levels - 1, 0)))

    def encode(self, values: npt.NDArray[np.floating]) -> Codes:
        """Codes of values, both of shape (n, d)."""
        return np.rint((values - self.offset) / self.step).astype(self.dtype)

    def decode(self, codes: Codes) -> Array:
        """Values of codes, both of shape (n, d)."""
        return self.offset + self.step * codes
