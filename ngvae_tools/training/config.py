"""The options of a training; importable without torch, so that the command line can show the defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from ngvae_tools.contract import Resize
from ngvae_tools.errors import OptionError
from ngvae_tools.laws import SLOPE

MODELS = ("ngvae", "vae", "beta-vae")
OBJECTIVES = ("mixture", "paper")
GRADIENTS = ("pathwise", "g-rep")
DEVICES = ("auto", "cpu", "cuda")

PRIOR_NATS = 1.0
MAX_EPOCHS = 200
SIZE = 64

PAPER_SIGMA = 0.02
"""The paper's noise level.

beta at sigma equals beta 1 at sigma * sqrt(beta): its beta 150 is our default 0.245.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How to train.

    Attributes:
        model: `ngvae`, `vae` or `beta-vae`, all on the paper's networks.
        objective: For `ngvae`: `mixture` (default; the exact mixture of Eq. 4 with an anchored prior) or
            `paper` (Eq. 5-10 as printed).
        gradient: Gradient estimator of objective `paper`: `pathwise` (implicit) or `g-rep` (Eq. 12-15).
        latent_dim: Number K of latent dimensions.
        sigma: Noise level of the likelihood, on the scale where images lie in [0, 1].
        beta: Weight of the rate; None means 4 for `beta-vae` and 1 for the others.
        slope: Slope r of Eq. 5 (objective `paper`), for which the paper gives no value.
        prior_nats: log(1/pi) of the prior weight pi of the informative law (objective `mixture`).
        epochs: Number of epochs; None means the paper's schedule: when the losses of five epochs stay within
            1 %, the learning rate is divided by ten, and the second time training stops.
        max_epochs: Where the paper's schedule stops at the latest.
        batch_size: Images a step.
        learning_rate: Of Adam.
        held_out: Share of the images that is not trained on and whose figures are reported.
        seed: Of the networks' start, the split, the order of images and the samples.
        device: `auto`, `cpu` or `cuda`.
        resize: How to bring images to `size` x `size`: `stretch`, `crop` or `pad`; None leaves them.
        size: Side in pixels after resizing, a multiple of 16.
    """

    model: str = "ngvae"
    objective: str | None = None
    gradient: str = "pathwise"
    latent_dim: int = 15
    sigma: float = 0.245
    beta: float | None = None
    slope: float = SLOPE
    prior_nats: float = PRIOR_NATS
    epochs: int | None = None
    max_epochs: int = MAX_EPOCHS
    batch_size: int = 64
    learning_rate: float = 1e-3
    held_out: float = 0.1
    seed: int = 0
    device: str = "auto"
    resize: Resize | None = None
    size: int = SIZE

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with.

        Raises:
            OptionError: A value is outside its range or does not go with another.
        """
        self._check_choices()
        self._check_numbers()

    def _check_choices(self) -> None:
        _one_of("--model", self.model, MODELS)
        _one_of("--gradient", self.gradient, GRADIENTS)
        _one_of("--device", self.device, DEVICES)
        if self.objective is not None:
            _one_of("--objective", self.objective, OBJECTIVES)
            if self.model != "ngvae":
                raise _refused("--objective", "no objective with a Gaussian model", f"{self.objective!r}")
        for option, given, applies, needs in (
            # An option that is silently ignored is a wrong result that nobody notices.
            ("--slope", self.slope != SLOPE, self.resolved_objective == "paper", "--objective paper with it"),
            (
                "--prior-nats",
                self.prior_nats != PRIOR_NATS,
                self.resolved_objective == "mixture",
                "--objective mixture with it",
            ),
            ("--max-epochs", self.max_epochs != MAX_EPOCHS, self.epochs is None, "no --epochs with it"),
            ("--size", self.size != SIZE, self.resize is not None, "--resize with it"),
            ("--beta", self.beta not in {None, 1.0}, self.model != "vae", "--model beta-vae or ngvae with it"),
        ):
            if given and not applies:
                raise OptionError(
                    f"{option} would do nothing in this run",
                    expected=needs,
                    found=f"--model {self.model} and objective {self.resolved_objective}",
                    remedy=f"leave {option} out, or add what it needs",
                )
        if self.gradient != "pathwise" and self.resolved_objective != "paper":
            raise _refused("--gradient", "pathwise, or --objective paper", f"{self.gradient!r}")
        if self.resize is not None:
            _one_of("--resize", self.resize, get_args(Resize))
            if self.size < 16 or self.size % 16:
                raise _refused("--size", "a positive multiple of 16", str(self.size))

    def _check_numbers(self) -> None:
        for option, value in (
            ("--sigma", self.sigma),
            ("--beta", self.resolved_beta),
            ("--slope", self.slope),
            ("--prior-nats", self.prior_nats),
            ("--learning-rate", self.learning_rate),
        ):
            if not (math.isfinite(value) and value > 0):
                raise _refused(option, "a number above 0", str(value))
        for option, count in (
            ("--latent-dim", self.latent_dim),
            ("--batch-size", self.batch_size),
            ("--epochs", 1 if self.epochs is None else self.epochs),
            ("--max-epochs", self.max_epochs),
        ):
            if count < 1:
                raise _refused(option, "a whole number above 0", str(count))
        if not 0 <= self.held_out < 1:
            raise _refused("--held-out", "a share from 0 to below 1", str(self.held_out))
        if not 0 <= self.seed < 2**63:
            raise _refused("--seed", "a whole number from 0 to below 2**63", str(self.seed))

    @property
    def resolved_objective(self) -> str:
        """`mixture`, `paper`, or `gaussian` for the models without p."""
        return "gaussian" if self.model != "ngvae" else self.objective or OBJECTIVES[0]

    @property
    def resolved_beta(self) -> float:
        """Weight of the rate in the loss."""
        if self.beta is not None:
            return self.beta
        return 4.0 if self.model == "beta-vae" else 1.0


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _refused(option, " or ".join(allowed), repr(value))


def _refused(option: str, expected: str, found: str) -> OptionError:
    return OptionError(f"{option} cannot be used", expected=expected, found=found, remedy=f"pass another {option}")
