"""The exact mixture of Eq. 4 with a prior weight learned for each dimension once the dimensions have separated."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ngvae_tools.training.gradients import MixtureEstimator, StudentTMixture
from ngvae_tools.training.objectives.mixture import MixtureObjective


class AdaptiveObjective(MixtureObjective):
    """The mixture until the dimensions have separated; from then on, a prior weight pi_k learned for each.

    Posterior, prior, and bound are those of `MixtureObjective`. With the fixed pi every image chooses its own law,
    an unused dimension rests where p = 1 - pi, and one at the uninformative law can carry a small signal at a
    price that is as low as anywhere. From the sign of separation on, three things change.

    Learned prior weights: pi_k follows the mean weight w = 1 - p over the images,

        logit pi_k = logit(mean of w over images) - L,    L = log((1 - pi) / pi) of the starting pi.

    For L = 0 this is the maximum of the bound in pi_k (empirical Bayes), and the index then costs the mutual
    information of law and image; L is the price in nats of an informative dimension. A dimension that most
    images use ends at p near 0, one that few use at p near 1. The mean is kept within [10^-3, 1 - 10^-3].

    Weight of the index: the KL of the component index is charged c times, with c rising from 1 to 5. KL >= 0, so
    the sum stays a bound on the negative log-likelihood. It makes it dear to be informative for some images only.

    Gated mean: with m the encoder's first output, the posterior mean goes from m to mu = w m, as
    (1 - g p) m with g rising from 0 to 1. So an uninformative dimension ends without a signal.

    The sign of separation: over three epochs no mean p has moved by 0.03 or more, and one at least is below 0.05; or
    else the first plateau of the loss. Charged from the start, the prior weights would freeze dimensions before
    it is decided what they carry. There is no way back, and the first saddle of the loss looks the same; so nothing
    is a sign before 800 training steps, and epochs shorter than 80 steps are pooled until they have as many: p moves
    little in fewer steps, settled or not. A saddle that lasts longer (2,000 steps and more were seen, on 3,000 images)
    still passes for the end, unless the number of epochs is fixed: then that 60 % of them are done is the one sign.

    Args:
        latent_dim: Number K of latent dimensions.
        prior_nats: log(1 / pi) of the starting pi.

    Attributes:
        mean_weight: Running mean of w over images, shape (K,); 1/2 until settled, where pi_k is the starting pi.
        steps: Training steps since the dimensions have separated; -1 before.
        trained: Training steps up to the last epoch's end.
        pooled_p: Sum over the pooled epochs of their mean p, shape (K,).
        pooled_epochs: How many those are.
        recent_p: Mean p of the last four epochs, or pools of them, shape (4, K); -1 where there was none, far from
            any.
    """

    INDEX_WEIGHT = 5.0
    EARLIEST = 800
    READING = 80
    RAMP = 800
    FOLLOW = 0.02
    LEAST = 1e-3
    MOVED = 0.03
    USED = 0.05

    mean_weight: Tensor
    steps: Tensor
    trained: Tensor
    pooled_p: Tensor
    pooled_epochs: Tensor
    recent_p: Tensor

    def __init__(
        self, latent_dim: int, prior_nats: float = 1.0, estimator: type[MixtureEstimator] = StudentTMixture
    ) -> None:
        super().__init__(latent_dim, prior_nats, estimator)
        self.register_buffer("mean_weight", torch.full((latent_dim,), 0.5))
        self.register_buffer("steps", torch.tensor(-1))
        self.register_buffer("trained", torch.tensor(0))
        self.register_buffer("pooled_p", torch.zeros(latent_dim))
        self.register_buffer("pooled_epochs", torch.tensor(0))
        self.register_buffer("recent_p", torch.full((4, latent_dim), -1.0))

    @property
    def price(self) -> float:
        """L, nats."""
        return math.log(math.expm1(self.prior_nats))

    @property
    def changing(self) -> bool:
        """Whether the ramp has begun and not ended."""
        return 0 <= int(self.steps) < self.RAMP

    @property
    def adapted(self) -> float:
        """Share of the ramp that is done."""
        return float(self._ramp())

    def mean(self, mu: Tensor, raw: Tensor) -> Tensor:
        """The mean (1 - g p) m for the encoder's first output m."""
        return mu * (1 - self._ramp() * torch.sigmoid(raw))

    def index_rate(self, raw: Tensor) -> Tensor:
        """KL of the component index from its learned prior, times c, nats, shape (B, K)."""
        logit = self._prior_logit()
        kl = torch.sigmoid(-raw) * (logsigmoid(-raw) - logsigmoid(logit))
        kl = kl + torch.sigmoid(raw) * (logsigmoid(raw) - logsigmoid(-logit))
        return self._index_weight() * kl

    def observe(self, mu: Tensor, raw: Tensor, z: Tensor) -> Tensor | None:  # noqa: ARG002
        """Mean of w over the batch, shape (K,)."""
        return torch.sigmoid(-raw).mean(dim=0)

    def absorb(self, observed: Tensor) -> None:
        """Follow the mean weight, once settled."""
        settled = self.steps >= 0
        within = observed.clamp(self.LEAST, 1 - self.LEAST)
        # On the device, without asking it: a step must not wait for the state.
        self.mean_weight.lerp_(within, self.FOLLOW * settled)
        self.steps += settled

    def settle(self, second: Tensor, *, plateau: bool, steps: int, watching: bool = True) -> bool:
        """Begin to learn the prior weights at the first sign of separation."""
        if self.steps >= 0:
            return False
        self.trained += steps
        self.pooled_p += second.to(self.pooled_p)
        self.pooled_epochs += 1
        still = False
        if int(self.pooled_epochs) * steps >= self.READING:
            reading = self.pooled_p / self.pooled_epochs
            self.pooled_p.zero_()
            self.pooled_epochs.zero_()
            self.recent_p = torch.cat([self.recent_p[1:], reading[None]])
            still = bool((self.recent_p.diff(dim=0).abs() < self.MOVED).all()) and bool((reading < self.USED).any())
            still = still and watching and int(self.trained) >= self.EARLIEST
        if still or plateau:
            self.steps.zero_()
        return still or plateau

    def hyperparameters(self) -> dict[str, float | tuple[float, ...]]:
        """Those of the mixture, pi of each dimension, and the pi of an unused one.

        The last is the least that a dimension can come to once the ramp has ended. Before, it is the least that one
        has come to, but not above the starting pi, where all dimensions are used.
        """
        weights = torch.sigmoid(self._prior_logit().double()).tolist()
        least = math.log(self.LEAST) - math.log1p(-self.LEAST) - self.price
        ended = int(self.steps) >= self.RAMP
        unused = 1 / (1 + math.exp(-least)) if ended else min(*weights, math.exp(-self.prior_nats))
        return super().hyperparameters() | {"prior_weight": tuple(weights), "unused_prior_weight": unused}

    def _prior_logit(self) -> Tensor:
        return torch.logit(self.mean_weight) - self.price

    def _index_weight(self) -> Tensor:
        return 1 + (self.INDEX_WEIGHT - 1) * self._ramp()

    def _ramp(self) -> Tensor:
        return (self.steps / self.RAMP).clamp(0, 1)
