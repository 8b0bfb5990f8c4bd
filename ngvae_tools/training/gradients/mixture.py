"""Draws of the exact mixture of Eq. 4: the implicit gradient, and one with the score of the component index.

With w = 1 - p the weight of the informative law and lambda integrated out, z = mu + t where t is of

    q(t) = w f_i(t / s) / s + (1 - w) f_u(t / s_u) / s_u,

f_c the Student-t density with 2 alpha_c degrees of freedom, s^2 = beta_i / alpha_i and s_u^2 = beta_u / alpha_u.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor, nn

from ngvae_tools.laws import GammaLaw
from ngvae_tools.training.gradients.base import LatentSample, standard_gamma, standard_normal
from ngvae_tools.training.gradients.student_t import StudentT


class MixtureEstimator(nn.Module, ABC):
    """Draws t of the mixture.

    Args:
        informative_alpha: Shape of the informative law; its scale s is an argument of `forward`.
        uninformative: The uninformative law.
    """

    def __init__(self, informative_alpha: float, uninformative: GammaLaw) -> None:
        super().__init__()
        self.informative_alpha = informative_alpha
        self.uninformative = uninformative

    @abstractmethod
    def forward(self, weight: Tensor, scale: Tensor, generator: Generator | None) -> LatentSample:
        """Draws t, shape (B, K), for weights w (B, K) and scales s (K,) of the informative law."""

    def draw(self, weight: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
        """The component index (True = informative) and t at scale 1 given that component, both (B, K)."""
        with torch.no_grad():
            informative = torch.rand(weight.shape, generator=generator, device=weight.device) < weight
            alpha = torch.where(informative, self.informative_alpha, self.uninformative.alpha).to(weight.dtype)
            # u / alpha is of Gamma(alpha, alpha), the precision at scale 1.
            precision = standard_gamma(alpha, generator) / alpha
            return informative, precision.rsqrt() * standard_normal(weight, generator)


class StudentTMixture(MixtureEstimator):
    """Draws with implicit gradients (Figurnov, Mohamed and Mnih 2018): one draw, unbiased, no score term.

    With F = w F_i + (1 - w) F_u the CDF of the mixture, a draw moves with the parameters so that F stays:

        dt/dw = -(dF/dw) / q = -(F_i - F_u) / q
        dt/ds = -(dF/ds) / q = w f_i(t / s) t / s^2 / q,    as F_i is a function of t / s alone.
    """

    def __init__(self, informative_alpha: float, uninformative: GammaLaw) -> None:
        super().__init__(informative_alpha, uninformative)
        self.narrow = StudentT(informative_alpha)
        self.wide = StudentT(uninformative.alpha)

    def forward(self, weight: Tensor, scale: Tensor, generator: Generator | None) -> LatentSample:
        """Draws of shape (B, K) for weights w (B, K) and scales s (K,) of the informative law."""
        informative, unit = self.draw(weight, generator)
        with torch.no_grad():
            t = unit * torch.where(informative, scale, self.uninformative.scale)
            u, v = t / scale, t / self.uninformative.scale
            f_i = self.narrow.density(u) / scale
            f_u = self.wide.density(v) / self.uninformative.scale
            # A law that is all but never drawn may be drawn where the density is no float.
            q = (weight * f_i + (1 - weight) * f_u).clamp_min(torch.finfo(t.dtype).tiny)
            # F_i - F_u from the tails, which keep their relative precision far out.
            difference = t.sign() * (self.wide.tail(v.abs()) - self.narrow.tail(u.abs()))
            by_weight = -difference / q
            by_scale = weight * f_i * u / q
        return LatentSample(t + by_weight * (weight - weight.detach()) + by_scale * (scale - scale.detach()))


class IndexScore(MixtureEstimator):
    """Draws by the paper's recipe (Eq. 12-15) on the exact mixture: the noise is the component index and eps.

    Given the component, log lambda is shifted and stretched by constants and by log beta_c only, so Eq. 13 is free of
    the parameters and t moves with the drawn law's own scale: dt/ds = t / s or 0. The index cannot be
    reparameterised; what remains of Eq. 15 is its score,

        log q(index) = log w where the informative law was drawn, log(1 - w) elsewhere.
    """

    def forward(self, weight: Tensor, scale: Tensor, generator: Generator | None) -> LatentSample:
        """Draws of shape (B, K) for weights w (B, K) and scales s (K,) of the informative law."""
        informative, unit = self.draw(weight, generator)
        t = unit * torch.where(informative, scale, self.uninformative.scale)
        drawn = torch.where(informative, weight, 1 - weight).clamp_min(torch.finfo(weight.dtype).tiny)
        return LatentSample(t, drawn.log().sum(dim=1))


MIXTURE_ESTIMATORS: dict[str, type[MixtureEstimator]] = {"pathwise": StudentTMixture, "g-rep": IndexScore}
