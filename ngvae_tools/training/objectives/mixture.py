"""The exact mixture of Eq. 4 with an anchored prior."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import logsigmoid

from ngvae_tools.contract import P
from ngvae_tools.laws import INFORMATIVE, UNINFORMATIVE
from ngvae_tools.posteriors import anchored_kl
from ngvae_tools.training.gradients import LatentSample, MixtureEstimator, StudentTMixture
from ngvae_tools.training.objectives.base import Objective


class MixtureObjective(Objective):
    """The exact mixture of Eq. 4, an anchored prior of the same two laws, and a learned scale per dimension.

    Let w = 1 - p. Posterior: w NG(mu, a_i, b_i) + (1 - w) NG(mu, a_u, b_u). Prior: N(z; 0, 1) times
    pi Gamma(a_i, b_i) + (1 - pi) Gamma(a_u, b_u). The KL of the joint with the component index bounds theirs:

        w log(w / pi) + (1 - w) log((1 - w) / (1 - pi)) + w A_i + (1 - w) A_u,
        A_c = (mu^2 + b_c / (a_c - 1) - 1 + digamma(a_c) - log b_c) / 2,

    where A_c is the mean of KL(N(mu, 1/lambda) || N(0, 1)) = (mu^2 + 1/lambda - 1 + log lambda) / 2 over the law
    of lambda, with E[1/lambda] = b_c / (a_c - 1) and E[log lambda] = digamma(a_c) - log b_c; the Gamma laws cancel.
    b_i = a_i s^2 with s learned for each dimension.

    Args:
        latent_dim: Number K of latent dimensions.
        prior_nats: log(1 / pi).
        estimator: Gradient estimator.
    """

    family = "normal-gamma-mixture"
    second_head = P

    def __init__(
        self, latent_dim: int, prior_nats: float = 1.0, estimator: type[MixtureEstimator] = StudentTMixture
    ) -> None:
        super().__init__()
        self.prior_nats = prior_nats
        self.log_scale = nn.Parameter(torch.full((latent_dim,), math.log(INFORMATIVE.scale)))
        self.mixture = estimator(INFORMATIVE.alpha, UNINFORMATIVE)
        self._digamma = float(torch.digamma(torch.tensor(INFORMATIVE.alpha, dtype=torch.float64)))
        self._uninformative_cost = anchored_kl(UNINFORMATIVE)

    def sample(self, mu: Tensor, raw: Tensor, generator: Generator | None = None) -> LatentSample:
        """Draw z = mu + t with t of the mixture of two Student-t laws."""
        drawn = self.mixture(torch.sigmoid(-raw), self.log_scale.exp(), generator)
        return LatentSample(mu + drawn.z, drawn.noise_log_density)

    def rate(self, mu: Tensor, raw: Tensor) -> Tensor:
        """The bound above.

        At the paper's laws it exceeds the KL of (z, lambda) by under 0.005 nat, and that of z alone by 1.07 nats
        at w = 1, mu = 0 and one nat of prior.
        """
        a_i = 0.5 * (self._informative_variance() - 1 + self._digamma - self._log_beta())
        laws = torch.sigmoid(-raw) * a_i + torch.sigmoid(raw) * self._uninformative_cost
        return 0.5 * mu**2 + self.index_rate(raw) + laws

    def index_rate(self, raw: Tensor) -> Tensor:
        """KL of the component index: w log(w / pi) + (1 - w) log((1 - w) / (1 - pi)), nats, shape (B, K)."""
        log_pi, log_rest = -self.prior_nats, math.log1p(-math.exp(-self.prior_nats))
        return torch.sigmoid(-raw) * (logsigmoid(-raw) - log_pi) + torch.sigmoid(raw) * (logsigmoid(raw) - log_rest)

    def posterior_variance(self, raw: Tensor) -> Tensor:
        """Mean of both laws' variances by their weights."""
        return torch.sigmoid(-raw) * self._informative_variance() + torch.sigmoid(raw) * UNINFORMATIVE.variance

    def hyperparameters(self) -> dict[str, float | tuple[float, ...]]:
        """Both laws, the informative one's rate per dimension, and pi."""
        betas = tuple(float(b) for b in self._log_beta().detach().double().exp())
        return {
            "informative_alpha": INFORMATIVE.alpha,
            "informative_beta": betas,
            "uninformative_alpha": UNINFORMATIVE.alpha,
            "uninformative_beta": UNINFORMATIVE.beta,
            "prior_weight": math.exp(-self.prior_nats),
        }

    def _log_beta(self) -> Tensor:
        return 2 * self.log_scale + math.log(INFORMATIVE.alpha)

    def _informative_variance(self) -> Tensor:
        return self._log_beta().exp() / (INFORMATIVE.alpha - 1)
