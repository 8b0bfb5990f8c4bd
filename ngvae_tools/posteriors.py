"""The posterior of each family, from the encoder's heads: mean, variance, entropy per dimension; numpy only.

Shapes: B images, K latent dimensions. All variances and entropies are of the marginal law of z_k, the
precision integrated out; entropies are differential, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import ContractError
from ngvae_tools.laws import INFORMATIVE, PRIOR, SLOPE, UNINFORMATIVE, GammaLaw

Array = npt.NDArray[np.float64]
Hyperparameters = Mapping[str, "float | tuple[float, ...]"]


@dataclass(frozen=True, slots=True)
class Posterior:
    """Posterior of a batch.

    Attributes:
        mean: Posterior means, shape (B, K).
        variance: Posterior variances, shape (B, K).
        entropy: Differential entropies of q(z_k | x) in nats, shape (B, K).
    """

    mean: Array
    variance: Array
    entropy: Array


class PosteriorFamily(Protocol):
    """How the heads of an encoder become a posterior."""

    @property
    def second_head(self) -> str:
        """Name of the head beside `mu`: `p` or `logvar`."""

    @property
    def rest_p(self) -> float | None:
        """The p at which a dimension that carries nothing rests; None where the family has no p."""

    def posterior(self, mu: Array, second: Array) -> Posterior:
        """Posterior for the heads `mu` and `second`, both of shape (B, K)."""


@dataclass(frozen=True)
class GaussianPosterior:
    """N(mu, exp(logvar)): plain VAE, beta-VAE and their kin (Kingma and Welling 2014)."""

    second_head = "logvar"
    rest_p = None

    def posterior(self, mu: Array, second: Array) -> Posterior:
        """Posterior for the heads `mu` and `logvar`."""
        return Posterior(mu, np.exp(second), 0.5 * (math.log(2 * math.pi * math.e) + second))


@dataclass(frozen=True)
class NormalGammaPosterior:
    """The paper's relaxation: NG(mu, alpha(p), beta(p)) with the interpolation of Eq. 5.

    The marginal of z is a Student-t with 2 alpha degrees of freedom and scale sqrt(beta / alpha).
    """

    informative: GammaLaw = INFORMATIVE
    uninformative: GammaLaw = UNINFORMATIVE
    slope: float = SLOPE

    second_head = "p"

    @property
    def rest_p(self) -> float:
        """The interior minimum of Eq. 10, where the printed objective draws a dimension that carries nothing."""
        return self.interior_minimum()[0]

    def interior_minimum(self) -> tuple[float, float]:
        """The p at which Eq. 10 is least, and its value there, in nats.

        The interpolation of Eq. 5 passes the prior's law between its two ends, so under the printed objective
        a dimension that carries nothing is drawn to this point rather than to p = 1.
        """
        p, step = np.linspace(0, 1, 20001, retstep=True)
        best = p[_gamma_kl(*self.parameters(p), PRIOR).argmin()]
        # A second, finer pass: at a steep slope the minimum is narrower than a step of the first.
        p = np.linspace(max(best - step, 0), min(best + step, 1), 2001)
        kl = _gamma_kl(*self.parameters(p), PRIOR)
        return float(p[kl.argmin()]), float(kl.min())

    def parameters(self, p: Array) -> tuple[Array, Array]:
        """alpha(p) and beta(p) of Eq. 5, polarity of Section IV: p near 0 = informative."""
        from scipy.special import expit

        weight = expit(self.slope * (p - 0.5))
        alpha = self.informative.alpha + (self.uninformative.alpha - self.informative.alpha) * weight
        beta = self.informative.beta + (self.uninformative.beta - self.informative.beta) * weight
        return alpha, beta

    def posterior(self, mu: Array, second: Array) -> Posterior:
        """Posterior for the heads `mu` and `p`."""
        alpha, beta = self.parameters(second)
        return Posterior(mu, beta / (alpha - 1), student_t_entropy(alpha, np.sqrt(beta / alpha)))


@dataclass(frozen=True)
class NormalGammaMixturePosterior:
    """The exact mixture of Eq. 4 with w = 1 - p the weight of the informative law.

    The marginal of z is a mixture of two Student-t laws around one mean. Its entropy has no closed form: it
    is integrated on a table of weights for each dimension, then interpolated (error below 1e-4 nat).

    Attributes:
        informative_beta: Rate of the informative law, one value a dimension, shape (K,).
        prior_weight: Prior weight pi of the informative law.
    """

    informative_alpha: float
    informative_beta: tuple[float, ...]
    uninformative: GammaLaw = UNINFORMATIVE
    prior_weight: float = math.exp(-1)

    second_head = "p"

    @property
    def rest_p(self) -> float:
        """The p that minimises the bound for a dimension with mu = 0 whose scale is free to adapt.

        A_i is least at beta = alpha - 1, that is at s^2 = (alpha - 1) / alpha; the optimum is then w
        proportional to pi exp(-A_i) against (1 - pi) exp(-A_u).
        """
        # The bound's A_i at its best scale: E[1/lambda] = 1.
        informative = anchored_kl(GammaLaw(self.informative_alpha, self.informative_alpha - 1))
        odds = self.prior_weight / (1 - self.prior_weight) * math.exp(anchored_kl(self.uninformative) - informative)
        return 1 / (1 + odds)

    def posterior(self, mu: Array, second: Array) -> Posterior:
        """Posterior for the heads `mu` and `p`."""
        weight = 1 - second
        beta = np.asarray(self.informative_beta)
        variance = weight * (beta / (self.informative_alpha - 1)) + second * self.uninformative.variance
        angles, table = self._entropy_table
        angle = np.arcsin(np.sqrt(weight.clip(0, 1)))
        entropy = np.stack([np.interp(angle[:, k], angles, row) for k, row in enumerate(table)], axis=1)
        return Posterior(mu, variance, entropy)

    @cached_property
    def _entropy_table(self) -> tuple[Array, Array]:
        # Nodes in the angle asin(sqrt(w)) crowd at both ends, where the entropy bends like w log w.
        angles = np.linspace(0, np.pi / 2, 513)
        weights = np.sin(angles) ** 2
        scales = np.sqrt(np.asarray(self.informative_beta) / self.informative_alpha)
        rows = [self._entropies(weights, scale) for scale in scales]
        return angles, np.stack(rows)

    def _entropies(self, weights: Array, scale: float) -> Array:
        # The trapezoid rule in x with t = s sinh(x) converges exponentially for these tails.
        unit = min(scale, self.uninformative.scale)
        reach = math.asinh(6e5 * max(scale, self.uninformative.scale) / unit)
        x = np.linspace(-reach, reach, 2 * math.ceil(20 * reach) + 1)
        t = unit * np.sinh(x)
        step = (x[1] - x[0]) * unit * np.cosh(x)
        narrow = student_t_density(t, self.informative_alpha, scale)
        wide = student_t_density(t, self.uninformative.alpha, self.uninformative.scale)
        density = weights[:, None] * narrow + (1 - weights[:, None]) * wide
        logs = np.log(np.where(density > 0, density, 1.0))
        return np.asarray(-(density * logs) @ step)


def student_t_entropy(alpha: Array, scale: Array) -> Array:
    """Entropy in nats of a Student-t with 2 alpha degrees of freedom and the given scale."""
    from scipy.special import betaln, digamma

    half = np.asarray(alpha, dtype=np.float64)
    log_norm = 0.5 * np.log(2 * half) + betaln(half, 0.5) + np.log(scale)
    return np.asarray((half + 0.5) * (digamma(half + 0.5) - digamma(half)) + log_norm)


def student_t_density(t: Array, alpha: float, scale: float) -> Array:
    """Density at t of a Student-t with 2 alpha degrees of freedom and the given scale."""
    from scipy.special import betaln

    log_norm = -0.5 * math.log(2 * alpha) - float(betaln(alpha, 0.5)) - math.log(scale)
    return np.asarray(np.exp(log_norm - (alpha + 0.5) * np.log1p((t / scale) ** 2 / (2 * alpha))))


def family_of(name: str, latent_dim: int, hyperparameters: Hyperparameters) -> PosteriorFamily:
    """The posterior family that an encoder's metadata name.

    Args:
        name: `gaussian`, `normal-gamma` or `normal-gamma-mixture`.
        latent_dim: Number K of latent dimensions.
        hyperparameters: Scalars or one value a dimension; the paper's values stand in for absent ones.

    Raises:
        ContractError: The name is unknown or a value is outside its range.
    """
    if name == "gaussian":
        return GaussianPosterior()
    if name not in ("normal-gamma", "normal-gamma-mixture"):
        raise ContractError(
            "the model's posterior family is unknown",
            expected="gaussian, normal-gamma or normal-gamma-mixture",
            found=repr(name),
            remedy="export the model again, or use the version of ngvae-tools that made it",
        )

    def scalar(key: str, default: float) -> float:
        value = hyperparameters.get(key, default)
        if isinstance(value, tuple) or not math.isfinite(value) or value <= 0:
            raise _bad_hyperparameter(key, "a positive number", value)
        return value

    uninformative = GammaLaw(
        scalar("uninformative_alpha", UNINFORMATIVE.alpha), scalar("uninformative_beta", UNINFORMATIVE.beta)
    )
    alpha = scalar("informative_alpha", INFORMATIVE.alpha)
    for key, value in (("informative_alpha", alpha), ("uninformative_alpha", uninformative.alpha)):
        if value <= 1:
            raise _bad_hyperparameter(key, "a number above 1, so that the variance is finite", value)
    if name == "normal-gamma":
        informative = GammaLaw(alpha, scalar("informative_beta", INFORMATIVE.beta))
        return NormalGammaPosterior(informative, uninformative, scalar("slope", SLOPE))
    beta = hyperparameters.get("informative_beta", INFORMATIVE.beta)
    betas = beta if isinstance(beta, tuple) else (beta,) * latent_dim
    if len(betas) != latent_dim or not all(math.isfinite(b) and b > 0 for b in betas):
        raise _bad_hyperparameter("informative_beta", f"a positive number, or {latent_dim} of them", beta)
    prior_weight = scalar("prior_weight", math.exp(-1))
    if prior_weight >= 1:
        raise _bad_hyperparameter("prior_weight", "a number between 0 and 1", prior_weight)
    return NormalGammaMixturePosterior(alpha, betas, uninformative, prior_weight)


def _gamma_kl(alpha: Array, beta: Array, prior: GammaLaw) -> Array:
    """KL(Gamma(alpha, beta) || prior) in nats (Eq. 10)."""
    from scipy.special import digamma, gammaln

    return np.asarray(
        prior.alpha * np.log(beta / prior.beta)
        - gammaln(alpha)
        + gammaln(prior.alpha)
        + (alpha - prior.alpha) * digamma(alpha)
        - (beta - prior.beta) * alpha / beta
    )


def anchored_kl(law: GammaLaw) -> float:
    """A_c at mu = 0: the mean KL of N(0, 1/lambda) from N(0, 1) under the law of the precision."""
    from scipy.special import digamma

    return (law.variance - 1 + float(digamma(law.alpha)) - math.log(law.beta)) / 2


def _bad_hyperparameter(key: str, expected: str, found: object) -> ContractError:
    return ContractError(
        f"the model's hyperparameter {key} cannot be used",
        expected=expected,
        found=repr(found),
        remedy="export the model again",
    )
