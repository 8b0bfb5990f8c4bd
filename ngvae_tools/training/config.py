"""The options of a training; importable without torch, so that the command line can show the defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from ngvae_tools.contract import Resize
from ngvae_tools.errors import OptionError
from ngvae_tools.laws import SLOPE

MODELS = ("ngvae", "vae", "beta-vae", "beta-tcvae", "factor-vae", "ard-vae")
OBJECTIVES = ("adaptive", "mixture", "paper")
GRADIENTS = ("pathwise", "g-rep")
DECODERS = ("paper", "broadcast")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bf16")

BETAS = {"beta-vae": 4.0, "beta-tcvae": 6.0}
"""Default of `beta` where it is not 1; 6 is the value of Chen et al. 2018."""

GAMMA = 35.0
"""That of Kim and Mnih 2018 for two-dimensional shapes."""

PRIOR_NATS = 1.0
PRIOR_NATS_RANGE = (1e-6, 50.0)
"""Beyond, one of the two prior weights, or its logarithm, can no longer be told from 0."""

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
        model: `ngvae`, or a baseline on the same networks: `vae`, `beta-vae`, `beta-tcvae` (Chen et al. 2018),
            `factor-vae` (Kim and Mnih 2018) or `ard-vae` (Saha, Joshi and Whitaker 2025).
        objective: For `ngvae`: `adaptive` (default; the mixture with a prior weight learned for each dimension
            once the dimensions have separated), `mixture` (the exact mixture of Eq. 4 with an anchored prior) or
            `paper` (Eq. 5-10 as printed).
        gradient: Gradient estimator of an `ngvae`: `pathwise` (implicit) or the paper's `g-rep` (Eq. 12-15).
        control_variate: With `g-rep`, multiply the score term by the distortion less the other images' mean.
        latent_dim: Number K of latent dimensions.
        sigma: Noise level of the likelihood, on the scale where images lie in [0, 1].
        learn_sigma: Let sigma follow its optimum, the root of the training error, from `sigma` on (sigma-VAE,
            Rybkin, Daniilidis and Levine 2021).
        beta: Weight of the rate, for `beta-tcvae` of the total correlation; None means 4 for `beta-vae`, 6 for
            `beta-tcvae` and 1 for the others.
        gamma: Weight of the total correlation of `factor-vae`.
        slope: Slope r of Eq. 5 (objective `paper`), for which the paper gives no value.
        prior_nats: log(1/pi) of the prior weight pi of the informative law (objective `mixture`), or of its start
            (objective `adaptive`); from 1e-6 to 50, for `adaptive` at least log 2.
        epochs: Number of epochs; None means the paper's schedule: when the losses of five epochs stay within
            1 %, the learning rate is divided by ten, and the second time training stops. Epochs of fewer than 80
            steps are pooled until they have as many.
        max_epochs: Where the paper's schedule stops at the latest.
        plateau_nats: Let the losses of a plateau stay within so many nats instead of 1 %.
        batch_size: Images a step, over all processes that train together.
        learning_rate: Of Adam.
        held_out: Share of the images that is not trained on and whose figures are reported.
        seed: Of the networks' start, the split, the order of images and the samples.
        data_seed: Of the split and the order of images; None means `seed`. Several starts on one split share it.
        device: `auto`, `cpu` or `cuda`.
        precision: Of the networks: `float32`, or `bf16` (autocast) where the device has it. Rates, losses, weights
            and exported files are float32.
        decoder: `paper`, the mirror of the encoder, or `broadcast`, the spatial broadcast decoder (Watters et al.
            2019).
        coordconv: Give every convolution coordinate channels (CoordConv, Liu et al. 2018). The broadcast decoder
            has its own and gets no others.
        resize: How to bring images to `size` x `size`: `stretch`, `crop` or `pad`; None leaves them.
        size: Side in pixels after resizing, a multiple of 16.
    """

    model: str = "ngvae"
    objective: str | None = None
    gradient: str = "pathwise"
    control_variate: bool = True
    latent_dim: int = 15
    sigma: float = 0.245
    learn_sigma: bool = False
    beta: float | None = None
    gamma: float = GAMMA
    slope: float = SLOPE
    prior_nats: float = PRIOR_NATS
    epochs: int | None = None
    max_epochs: int = MAX_EPOCHS
    plateau_nats: float | None = None
    batch_size: int = 64
    learning_rate: float = 1e-3
    held_out: float = 0.1
    seed: int = 0
    data_seed: int | None = None
    device: str = "auto"
    precision: str = "float32"
    decoder: str = "paper"
    coordconv: bool = False
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
        _one_of("--decoder", self.decoder, DECODERS)
        _one_of("--device", self.device, DEVICES)
        _one_of("--precision", self.precision, PRECISIONS)
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
                self.resolved_objective in {"adaptive", "mixture"},
                "--objective adaptive or mixture with it",
            ),
            ("--gradient", self.gradient != "pathwise", self.model == "ngvae", "--model ngvae with it"),
            ("--no-control-variate", not self.control_variate, self.gradient == "g-rep", "--gradient g-rep with it"),
            ("--max-epochs", self.max_epochs != MAX_EPOCHS, self.epochs is None, "no --epochs with it"),
            (
                "--plateau-nats",
                self.plateau_nats is not None,
                self.epochs is None or self.resolved_objective == "adaptive",
                "no --epochs with it, or --objective adaptive",
            ),
            ("--size", self.size != SIZE, self.resize is not None, "--resize with it"),
            (
                "--beta",
                self.beta not in {None, 1.0},
                self.model not in {"vae", "factor-vae"},
                "--model beta-vae, beta-tcvae, ard-vae or ngvae with it",
            ),
            ("--gamma", self.gamma != GAMMA, self.model == "factor-vae", "--model factor-vae with it"),
        ):
            if given and not applies:
                raise OptionError(
                    f"{option} would do nothing in this run",
                    expected=needs,
                    found=f"--model {self.model} and objective {self.resolved_objective}",
                    remedy=f"leave {option} out, or add what it needs",
                )
        if self.resize is not None:
            _one_of("--resize", self.resize, get_args(Resize))
            if self.size < 16 or self.size % 16:
                raise _refused("--size", "a positive multiple of 16", str(self.size))

    def _check_numbers(self) -> None:
        for option, value in (
            ("--sigma", self.sigma),
            ("--beta", self.resolved_beta),
            ("--gamma", self.gamma),
            ("--slope", self.slope),
            ("--learning-rate", self.learning_rate),
            ("--plateau-nats", 1.0 if self.plateau_nats is None else self.plateau_nats),
        ):
            if not (math.isfinite(value) and value > 0):
                raise _refused(option, "a number above 0", str(value))
        low, high = PRIOR_NATS_RANGE
        if not low <= self.prior_nats <= high:
            raise _refused("--prior-nats", f"a number from {low:g} to {high:g}", str(self.prior_nats))
        if self.resolved_objective == "adaptive" and self.prior_nats < math.log(2):
            # Its price, log(1/pi - 1), would pay for being informative, and no unused dimension would come to rest.
            raise _refused("--prior-nats", "at least log 2 = 0.694 with objective adaptive", str(self.prior_nats))
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
        for option, seed in (("--seed", self.seed), ("data_seed", self.resolved_data_seed)):
            if not 0 <= seed < 2**63:
                raise _refused(option, "a whole number from 0 to below 2**63", str(seed))

    @property
    def resolved_objective(self) -> str:
        """`adaptive`, `mixture` or `paper`; for the models without p, `gaussian` or the name of the model."""
        if self.model == "ngvae":
            return self.objective or OBJECTIVES[0]
        return "gaussian" if self.model in {"vae", "beta-vae"} else self.model

    @property
    def resolved_data_seed(self) -> int:
        """Seed of the split and of the order of images."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def resolved_beta(self) -> float:
        """Weight of the rate in the loss, or of the total correlation of a beta-TCVAE."""
        return BETAS.get(self.model, 1.0) if self.beta is None else self.beta

    @property
    def rate_weight(self) -> float:
        """Weight of the rate in the loss."""
        return 1.0 if self.model == "beta-tcvae" else self.resolved_beta


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _refused(option, " or ".join(allowed), repr(value))


def _refused(option: str, expected: str, found: str) -> OptionError:
    return OptionError(f"{option} cannot be used", expected=expected, found=found, remedy=f"pass another {option}")
