"""The record of a sweep over noise levels; stdlib only. JSON in, JSON out, equal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ngvae_tools.errors import RecordError

FORMAT = "ngvae-tools/sweep"
VERSION = 1
FILE_NAME = "sweep.json"
SVG_NAME = "sweep.svg"
PNG_NAME = "sweep.png"

Scalar = str | int | float | bool | None
"""What JSON holds beside lists and objects."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of a level; figures are None where it failed.

    Attributes:
        cell: Name of its folder in the sweep's `cells`.
        seed: Of its start.
        failed: Why it failed; None where it did not.
        held_out: Whether the four figures below are of held-out images, else of the last epoch's training images.
        loss: What was minimised, nats, constants dropped: comparable between trials of one level only.
        distortion: Negative log-likelihood, nats, its constant included.
        rate: Bound on the KL to the prior that the objective uses, nats.
        mse: Mean squared error of a pixel, on the scale where images lie in [0, 1].
        counts: Number of informative dimensions by each rule that applies; an ARD-VAE's own is `relevance`.
        informative: Dimensions that are informative by the sweep's rule.
        p: Mean p of each dimension (near 0 = informative), shape (K,); None for Gaussian models.
        information: I(x; z_k) of each dimension in nats, shape (K,).
        two_nn: Intrinsic dimension of the latent cloud by TwoNN.
        two_nn_interval: Its 95 % interval.
        epochs: Epochs trained.
        settled: Epochs at the end during which the count by the family's rule stayed, in training.
        adapted: Share of the change to learned prior weights that was done; None where the objective has none.
    """

    cell: str
    seed: int
    failed: str | None = None
    held_out: bool = False
    loss: float | None = None
    distortion: float | None = None
    rate: float | None = None
    mse: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    informative: tuple[int, ...] = ()
    p: tuple[float, ...] | None = None
    information: tuple[float, ...] | None = None
    two_nn: float | None = None
    two_nn_interval: tuple[float, float] | None = None
    epochs: int | None = None
    settled: int | None = None
    adapted: float | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """A noise level.

    Attributes:
        sigma: The level.
        trials: Its trainings, in order of their seeds.
        best: Index of the trial of least loss, which stands for the level; None where all failed.
    """

    sigma: float
    trials: tuple[Trial, ...]
    best: int | None

    @property
    def kept(self) -> Trial | None:
        """The trial that stands for the level."""
        return None if self.best is None else self.trials[self.best]

    def count(self, rule: str) -> int | None:
        """Number of informative dimensions of the kept trial by a rule; None where there is none."""
        return None if self.kept is None else self.kept.counts.get(rule)


@dataclass(frozen=True, slots=True)
class Plateau:
    """A range of sigma over which a count holds.

    Attributes:
        count: Number of informative dimensions.
        low: Least level of the range.
        high: Greatest level of the range.
        levels: Number of levels in it.
    """

    count: int
    low: float
    high: float
    levels: int

    @property
    def factor(self) -> float:
        """How wide it is: `high` over `low`."""
        return self.high / self.low


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule says over all levels.

    Attributes:
        rule: Name of the rule.
        plateaus: The widest plateaus: none, one, or several of equal width. One count is the answer.
    """

    rule: str
    plateaus: tuple[Plateau, ...]

    @property
    def answer(self) -> Plateau | None:
        """The widest plateau; None where there is none, or several of different counts."""
        return self.plateaus[0] if len({plateau.count for plateau in self.plateaus}) == 1 else None


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """Everything that a sweep found out.

    Attributes:
        data: Path, fingerprint and number of images of the data set, and how many could not be used, in words why.
        options: Options of the trainings, those that a level or a trial sets left out.
        latent_dim: Number K of latent dimensions.
        rule: The rule that the models' family is made for.
        levels: In order of sigma, least first.
        verdicts: By `rule` first, then by information.
        timings: Seconds; the only part that may differ between equal sweeps.
        versions: Versions of ngvae-tools and of the libraries it ran on.
        notes: Sentences a reader must know.
    """

    data: Mapping[str, Scalar]
    options: Mapping[str, Scalar]
    latent_dim: int
    rule: str
    levels: tuple[Level, ...]
    verdicts: tuple[Verdict, ...]
    timings: Mapping[str, float]
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The record as JSON text.

        Raises:
            ValueError: A number is NaN or infinite.
        """
        body = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return json.dumps(body, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SweepRecord:
        """Read a record from its JSON text.

        Raises:
            RecordError: The text is not a record of this version.
        """
        try:
            raw = json.loads(text)
            if (raw["format"], raw["version"]) != (FORMAT, VERSION):
                raise _unreadable(f"format {raw['format']!r} version {raw['version']!r}")
            fields = {key: _tuples(value) for key, value in raw.items() if key not in {"format", "version"}}
            fields["levels"] = tuple(
                Level(level["sigma"], tuple(Trial(**trial) for trial in level["trials"]), level["best"])
                for level in fields["levels"]
            )
            fields["verdicts"] = tuple(
                Verdict(verdict["rule"], tuple(Plateau(**plateau) for plateau in verdict["plateaus"]))
                for verdict in fields["verdicts"]
            )
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _unreadable(f"{type(error).__name__}: {error}") from None

    @classmethod
    def read(cls, folder: Path) -> SweepRecord:
        """Read the record of a sweep's folder.

        Raises:
            RecordError: The folder holds no record that can be read.
        """
        try:
            text = (folder / FILE_NAME).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(str(error)) from None
        return cls.from_json(text)

    def equal_but_for_timings(self, other: SweepRecord) -> bool:
        """Whether two records say the same apart from how long the work took."""
        return dataclasses.replace(self, timings={}) == dataclasses.replace(other, timings={})


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


def _unreadable(found: str) -> RecordError:
    return RecordError(
        "this is not the record of a sweep that can be read",
        expected=f"{FILE_NAME} of format {FORMAT!r} version {VERSION} with every field",
        found=found,
        remedy="name a folder that sweep of this version wrote",
    )
