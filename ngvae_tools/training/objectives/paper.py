"""The paper's objective as printed."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from ngvae_tools.contract import P
from ngvae_tools.laws import INFORMATIVE, PRIOR, SLOPE, UNINFORMATIVE, GammaLaw
from ngvae_tools.training.gradients import LatentSample, NormalGammaEstimator, pathwise
from ngvae_tools.training.objectives.base import Objective


class PaperObjective(Objective):
    """Eq. 5-10 as printed: NG(mu, alpha(p), beta(p)) against the prior NG(0, 8.25, 3.62).

    Posterior and prior are a Normal law of z given the precision lambda, and a Gamma law of lambda:

        q(z, lambda | x) = N(z; mu, 1/lambda) Gamma(lambda; alpha(p), beta(p))
        p(z, lambda)     = N(z; 0, 1/lambda) Gamma(lambda; 8.25, 3.62).

    Their KL splits (Eq. 7) into the mean over q(lambda) of the KL of the two Normal laws, and the KL of the two
    Gamma laws (Eq. 10). Both Normal laws have the precision lambda, so theirs is lambda mu^2 / 2, and
    E[lambda] = alpha / beta gives Eq. 9.

    Two properties of the printed equations limit what p says. The interpolation of Eq. 5 passes the prior's
    own law between its ends (the KL of Eq. 10 is 0.013 nat at p = 0.216, 0.386 and 0.443 for r = 20, 50 and 100),
    so p is drawn to that interior point. And Eq. 9 prices mu against the posterior's own precision, that is, the
    signal-to-noise ratio alone: a dimension at the uninformative law carries any amount of information by growing mu,
    and is 27.8 nats cheaper than at the informative one.

    Args:
        slope: r of Eq. 5.
        estimator: Gradient estimator.
    """

    family = "normal-gamma"
    second_head = P

    def __init__(self, slope: float = SLOPE, estimator: NormalGammaEstimator = pathwise) -> None:
        super().__init__()
        self.slope = slope
        self.estimator = estimator

    def parameters_of(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """alpha(p) and beta(p) of Eq. 5, shape of p; p near 0 gives the informative law (Section IV's polarity)."""
        weight = torch.sigmoid(self.slope * (p - 0.5))
        alpha = INFORMATIVE.alpha + (UNINFORMATIVE.alpha - INFORMATIVE.alpha) * weight
        beta = INFORMATIVE.beta + (UNINFORMATIVE.beta - INFORMATIVE.beta) * weight
        return alpha, beta

    def sample(self, mu: Tensor, raw: Tensor, generator: Generator | None = None) -> LatentSample:
        """Draw lambda, then z (Eq. 12)."""
        return self.estimator(mu, *self.parameters_of(torch.sigmoid(raw)), generator)

    def rate(self, mu: Tensor, raw: Tensor) -> Tensor:
        """Sum of Eq. 9 and Eq. 10: the KL of the two Normal-Gamma laws."""
        alpha, beta = self.parameters_of(torch.sigmoid(raw))
        return 0.5 * alpha / beta * mu**2 + gamma_kl(alpha, beta, PRIOR)  # Eq. 9, Eq. 10

    def posterior_variance(self, raw: Tensor) -> Tensor:
        """E[1 / lambda] = beta(p) / (alpha(p) - 1)."""
        alpha, beta = self.parameters_of(torch.sigmoid(raw))
        return beta / (alpha - 1)

    def hyperparameters(self) -> dict[str, float | tuple[float, ...]]:
        """Both laws and the slope."""
        return {
            "informative_alpha": INFORMATIVE.alpha,
            "informative_beta": INFORMATIVE.beta,
            "uninformative_alpha": UNINFORMATIVE.alpha,
            "uninformative_beta": UNINFORMATIVE.beta,
            "slope": self.slope,
        }


def gamma_kl(alpha: Tensor, beta: Tensor, prior: GammaLaw) -> Tensor:
    """KL(Gamma(alpha, beta) || prior) in nats (Eq. 10), shape of alpha and beta.

    The mean over lambda of Gamma(alpha, beta) of the difference of two log-densities,

        a log b - lgamma(a) + (a - 1) log lambda - b lambda,

    at (a, b) = (alpha, beta) and at the prior's, with E[lambda] = alpha / beta and
    E[log lambda] = digamma(alpha) - log beta.
    """
    return (
        prior.alpha * torch.log(beta / prior.beta)
        - torch.lgamma(alpha)
        + math.lgamma(prior.alpha)
        + (alpha - prior.alpha) * torch.digamma(alpha)
        - (beta - prior.beta) * alpha / beta
    )
