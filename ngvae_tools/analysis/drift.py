"""Whether two data sets through the same encoder differ: every dimension, all together, and the range seen before.

A difference counts where it is both beyond chance and beyond negligible. With a million images every difference is
beyond chance; with thirty, chance looks like a difference.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from ngvae_tools.analysis import two_sample
from ngvae_tools.analysis.energy import EnergyTest
from ngvae_tools.analysis.ranges import Outside
from ngvae_tools.record import Interval

FORMAT = "ngvae-tools/drift"
VERSION = 1

LEVEL_DIMENSIONS = 0.04
"""Chance of any false finding among the tests of single dimensions, which share it by Holm's method."""

LEVEL_JOINT = 0.01
"""Chance of a false finding of the joint test; with `LEVEL_DIMENSIONS` 5 % in all."""

SHIFT = 0.1
"""A mean that moves by less than a tenth of A's standard deviation (half of Cohen's small effect) is negligible."""

SCALE = 1.1
"""A standard deviation that changes by less than 10 % is negligible."""

DISTANCE = 0.05
"""A Kolmogorov-Smirnov distance below 0.05 is negligible; a normal law that shifts by 0.13 sd has it."""

P_DISTANCE = 0.05
"""A move of p by less than 0.05 on average, the width of a bin of its histogram, is negligible."""

OUTSIDE = 0.01
"""A share of images outside the range below 1 % is negligible for the verdict; they are listed all the same."""

NOISE = 0.1
"""A change below a tenth of the posterior's own standard deviation is negligible: z itself is noisier than that."""

POWER = 0.8


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number that compares B with A in one dimension.

    Attributes:
        name: `mean`: shift of the mean in standard deviations of A. `variance`: variance of B over that of A.
            `distribution`: Kolmogorov-Smirnov distance. `wasserstein`: Wasserstein-1 distance in standard deviations
            of A. `p_mean`: mean p of B minus that of A. `p`: Wasserstein-1 distance of the histograms of p.
            `outside`: share of B's images outside A's range.
        value: The number; None where it is not defined.
        interval: Its 95 % interval.
        p_value: Of no difference, by itself; None where the number is not tested.
        corrected: `p_value` corrected for all tests of single dimensions (Holm).
        beyond_negligible: Whether the number is larger than the documented negligible one.
    """

    name: str
    value: float | None
    interval: Interval | None
    p_value: float | None
    corrected: float | None
    beyond_negligible: bool

    @property
    def beyond_chance(self) -> bool:
        """Whether the corrected p value is below its level."""
        return self.corrected is not None and self.corrected <= LEVEL_DIMENSIONS

    @property
    def differs(self) -> bool:
        """Beyond chance and beyond negligible."""
        return self.beyond_chance and self.beyond_negligible


@dataclass(frozen=True, slots=True)
class DimensionDrift:
    """How one dimension differs between the data sets.

    Attributes:
        index: The dimension.
        informative: Verdict of A's selection.
        in_both: Whether both latent files hold it, so that its distributions are compared, not its moments alone.
        comparisons: Every number that is defined.
    """

    index: int
    informative: bool
    in_both: bool
    comparisons: tuple[Comparison, ...]

    def get(self, name: str) -> Comparison | None:
        """The comparison of that name."""
        return next((comparison for comparison in self.comparisons if comparison.name == name), None)

    @property
    def differs(self) -> bool:
        """Whether any comparison differs beyond chance and beyond negligible."""
        return any(comparison.differs for comparison in self.comparisons)

    @property
    def beyond_chance(self) -> bool:
        """Whether any comparison differs beyond chance."""
        return any(comparison.beyond_chance for comparison in self.comparisons)


@dataclass(frozen=True, slots=True)
class JointDrift:
    """The joint distribution of the dimensions in both latent files.

    Attributes:
        dimensions: The dimensions.
        test: The energy test.
        pair: The two dimensions whose rank correlation changed most; None for one dimension.
        correlations: Rank correlation (of normal scores) of `pair` in A and in B.
    """

    dimensions: tuple[int, ...]
    test: EnergyTest
    pair: tuple[int, int] | None
    correlations: tuple[float, float] | None

    @property
    def differs(self) -> bool:
        """Whether the p value is below its level; with at most `energy.ROWS` rows nothing negligible is."""
        return self.test.p_value <= LEVEL_JOINT


@dataclass(frozen=True, slots=True)
class DriftSide:
    """One of the two data sets.

    Attributes:
        folder: Output folder of select-latents.
        data: Where the data set was.
        fingerprint: Identifies its content.
        n_images: Images used.
        n_rejected: Images that could not be used.
        dimensions: Dimensions that its latent file holds.
    """

    folder: str
    data: str
    fingerprint: str
    n_images: int
    n_rejected: int
    dimensions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether data set B differs from data set A through the same encoder.

    Attributes:
        verdict: The answer in a sentence or two.
        differs: Whether any dimension, or the joint distribution, differs.
        differing: Dimensions that differ beyond chance and beyond negligible.
        negligible: Dimensions that differ beyond chance, but by a negligible amount.
        smallest_shift: Shift of a mean, in standard deviations of A, that is found with 80 % power; None with
            fewer than two images.
        a: The reference.
        b: The new data.
        encoder_sha256: The encoder of both.
        family: Law of its posterior.
        dimensions: A row a dimension, all K.
        joint: The joint test; None where it cannot be made.
        outside: Images of B outside A's range; None where B's latent file holds no dimension or no row.
        settings: The thresholds that decide.
        notes: What a reader must know.
    """

    verdict: str
    differs: bool
    differing: tuple[int, ...]
    negligible: tuple[int, ...]
    smallest_shift: float | None
    a: DriftSide
    b: DriftSide
    encoder_sha256: str
    family: str
    dimensions: tuple[DimensionDrift, ...]
    joint: JointDrift | None
    outside: Outside | None
    settings: dict[str, float]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """The comparison as JSON text.

        Raises:
            ValueError: A number is NaN or infinite.
        """
        body = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return json.dumps(body, indent=2, allow_nan=False) + "\n"


SETTINGS = {
    "confidence": two_sample.CONFIDENCE,
    "level_dimensions": LEVEL_DIMENSIONS,
    "level_joint": LEVEL_JOINT,
    "negligible_shift": SHIFT,
    "negligible_sd_ratio": SCALE,
    "negligible_distance": DISTANCE,
    "negligible_p_distance": P_DISTANCE,
    "negligible_share_outside": OUTSIDE,
    "negligible_of_posterior_sd": NOISE,
    "power": POWER,
}
