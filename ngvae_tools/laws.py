"""The Gamma laws of the precision, with the values of the paper's Section IV; stdlib only.

The paper numbers its two components 1 and 2 and contradicts itself on which is which. Section IV's numbers
decide: the mean variance of z is beta / (alpha - 1), so (3.65, 0.24) is the informative law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GammaLaw:
    """A Gamma law of the precision lambda = 1 / variance, in shape alpha and rate beta."""

    alpha: float
    beta: float

    @property
    def variance(self) -> float:
        """Mean variance of z under the law, E[1 / lambda] = beta / (alpha - 1)."""
        return self.beta / (self.alpha - 1)

    @property
    def scale(self) -> float:
        """Scale of the Student-t law of z: sqrt(beta / alpha), with 2 alpha degrees of freedom."""
        return math.sqrt(self.beta / self.alpha)


INFORMATIVE = GammaLaw(3.65, 0.24)
"""p near 0: mean variance 0.0906."""

UNINFORMATIVE = GammaLaw(902.0, 810.9)
"""p near 1: mean variance 0.900."""

PRIOR = GammaLaw(8.25, 3.62)
"""Prior of the precision in the printed objective: mean variance 0.499."""

SLOPE = 50.0
"""Slope r of Eq. 5, for which the paper gives no value.

From r = 50 on, both ends of Eq. 5 reach their laws: the mean variance at p = 0 is 0.0906, against 0.103 at
r = 20 and 0.654 at r = 10.
"""
