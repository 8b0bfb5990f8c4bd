"""Samples of the latents through which gradients flow: replaceable estimators of one expectation.

Each returns a `LatentSample`. Where an estimator needs a score term (Eq. 15), the sample carries the
log-density of its noise, and the loop adds its product with the distortion to the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from ngvae_tools.laws import GammaLaw


@dataclass(frozen=True, slots=True)
class LatentSample:
    """One draw of z for each image.

    Attributes:
        z: Latents, shape (B, K); gradients flow through it.
        noise_log_density: log q(eps) summed over dimensions, shape (B,), for estimators with a score term.
    """

    z: Tensor
    noise_log_density: Tensor | None = None


class NormalGammaEstimator(Protocol):
    """Draws z of NG(mu, alpha, beta)."""

    def __call__(self, mu: Tensor, alpha: Tensor, beta: Tensor, generator: Generator | None) -> LatentSample:
        """One draw for parameters of shape (B, K)."""


def pathwise(mu: Tensor, alpha: Tensor, beta: Tensor, generator: Generator | None) -> LatentSample:
    """Draw through the implicit derivative of the Gamma CDF (Figurnov, Mohamed and Mnih 2018).

    lambda = g / beta with g of Gamma(alpha, 1); z = mu + lambda^(-1/2) eps, eps of N(0, 1). The first half of
    Eq. 15 with an exact transformation, so no score term remains.
    """
    gamma = torch._standard_gamma(alpha, generator)  # noqa: SLF001 - Gamma.rsample takes no generator
    lam = gamma.clamp_min(torch.finfo(gamma.dtype).tiny) / beta
    return LatentSample(mu + lam.rsqrt() * _normal(mu, generator))


def g_rep(mu: Tensor, alpha: Tensor, beta: Tensor, generator: Generator | None) -> LatentSample:
    """Draw as the paper does (Eq. 12-15; Ruiz, Titsias and Blei 2016), element by element, no Jacobian matrix.

    eps = (log lambda - digamma(alpha) + log beta) / sqrt(trigamma(alpha)) depends weakly on alpha; the rest
    of the gradient is the score of
    log q(eps) = -lgamma(alpha) + alpha log u - u + log(trigamma(alpha)) / 2,
    u = exp(eps sqrt(trigamma(alpha)) + digamma(alpha)).
    """
    with torch.no_grad():
        gamma = torch._standard_gamma(alpha, generator)  # noqa: SLF001 - as above
        spread = torch.polygamma(1, alpha).sqrt()
        log_gamma = gamma.clamp_min(torch.finfo(gamma.dtype).tiny).log()
        eps = (log_gamma - torch.digamma(alpha)) / spread
    trigamma = torch.polygamma(1, alpha)
    log_u = eps * trigamma.sqrt() + torch.digamma(alpha)  # Eq. 13, solved for log(lambda beta)
    lam = log_u.exp() / beta
    log_density = -torch.lgamma(alpha) + alpha * log_u - log_u.exp() + 0.5 * trigamma.log()
    return LatentSample(mu + lam.rsqrt() * _normal(mu, generator), log_density.sum(dim=1))


ESTIMATORS: dict[str, NormalGammaEstimator] = {"pathwise": pathwise, "g-rep": g_rep}


class StudentT(nn.Module):
    """Density and tail of the Student-t law that a Gamma law of the precision gives to z, at scale 1.

    The tail has no closed form in torch. As a function of y = t / sqrt(nu + t^2) it is smooth, and is read
    from a table of values and slopes by cubic interpolation (error below 1e-7 for the
    paper's laws; up to 6e-6 for a shape as low as 1.2).
    """

    NODES = 2049

    def __init__(self, alpha: float) -> None:
        super().__init__()
        from scipy import stats

        self.nu = 2 * alpha
        self.log_norm = math.lgamma(alpha + 0.5) - math.lgamma(alpha) - 0.5 * math.log(self.nu * math.pi)
        law = stats.t(self.nu)
        last = float(law.isf(1e-13))
        self.y_max = last / math.sqrt(self.nu + last**2)
        y = torch.linspace(0, self.y_max, self.NODES, dtype=torch.float64)
        t = y * (self.nu / (1 - y**2)).sqrt()
        step = self.y_max / (self.NODES - 1)
        # dS/dy = -f(t) dt/dy, dt/dy = sqrt(nu) (1 - y^2)^(-3/2)
        slope = -torch.as_tensor(law.pdf(t)) * math.sqrt(self.nu) * (1 - y**2) ** -1.5 * step
        table = torch.stack([torch.as_tensor(law.sf(t)), slope], dim=1)
        self.table: Tensor
        self.register_buffer("table", table.float(), persistent=False)

    def density(self, t: Tensor) -> Tensor:
        """Density at t."""
        return torch.exp(self.log_norm - (self.nu + 1) / 2 * torch.log1p(t * t / self.nu))

    def tail(self, t: Tensor) -> Tensor:
        """P(T > t) for t >= 0."""
        position = (t * torch.rsqrt(self.nu + t * t)).clamp_max(self.y_max) * ((self.NODES - 1) / self.y_max)
        # Clamped as an integer: where training diverged, a NaN must come out as NaN, not as a bad index.
        node = position.long().clamp(0, self.NODES - 2)
        x = position - node
        left, right = self.table[node], self.table[node + 1]
        cubic = (
            (1 + 2 * x) * (1 - x) ** 2 * left[..., 0]
            + x * (1 - x) ** 2 * left[..., 1]
            + x**2 * (3 - 2 * x) * right[..., 0]
            - x**2 * (1 - x) * right[..., 1]
        )
        return cubic.clamp_min(0)


class StudentTMixture(nn.Module):
    """Draws t of the marginal mixture of Eq. 4, with implicit gradients to its weight and the narrow scale.

    With F the CDF and q the density of the mixture w F_i(t) + (1 - w) F_u(t), a draw moves with the
    parameters so that F stays: dt/dw = -(F_i - F_u) / q and dt/ds = w f_i(t) t / (s q) (Figurnov, Mohamed and
    Mnih 2018).

    Args:
        informative_alpha: Shape of the informative law; its scale s is an argument of `forward`.
        uninformative: The uninformative law.
    """

    def __init__(self, informative_alpha: float, uninformative: GammaLaw) -> None:
        super().__init__()
        self.informative_alpha = informative_alpha
        self.uninformative = uninformative
        self.narrow = StudentT(informative_alpha)
        self.wide = StudentT(uninformative.alpha)

    def forward(self, weight: Tensor, scale: Tensor, generator: Generator | None) -> Tensor:
        """Draws of shape (B, K) for weights w (B, K) and scales s (K,) of the informative law."""
        with torch.no_grad():
            informative = torch.rand(weight.shape, generator=generator, device=weight.device) < weight
            alpha = torch.where(informative, self.informative_alpha, self.uninformative.alpha).to(weight.dtype)
            gamma = torch._standard_gamma(alpha, generator)  # noqa: SLF001 - as above
            root = (gamma.clamp_min(torch.finfo(gamma.dtype).tiny) / alpha).rsqrt()
            t = torch.where(informative, scale, self.uninformative.scale) * root * _normal(weight, generator)
            u, v = t / scale, t / self.uninformative.scale
            f_i = self.narrow.density(u) / scale
            f_u = self.wide.density(v) / self.uninformative.scale
            q = weight * f_i + (1 - weight) * f_u
            # F_i - F_u from the tails, which keep their relative precision far out.
            difference = t.sign() * (self.wide.tail(v.abs()) - self.narrow.tail(u.abs()))
            by_weight = -difference / q
            by_scale = weight * f_i * u / q
        return t + by_weight * (weight - weight.detach()) + by_scale * (scale - scale.detach())


def _normal(like: Tensor, generator: Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
