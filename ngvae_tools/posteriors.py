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
TYPE_TOLERANCE = 0.05
"""NGVAE's laws have the variances 0.0906 and 0.900, on the limits 0.1 and 0.9 of active and passive dimensions."""

Hyperparameters = Mapping[str, "float | tuple[float, ...]"]


@dataclass(frozen=True, slots=True)
class Posterior:
    """Posterior of a batch.

    Attributes:
        mean: Posterior means, shape (B, K).
        variance: Posterior variances, shape (B, K); None for deterministic codes.
        entropy: Differential entropies of q(z_k | x) in nats, shape (B, K); None for deterministic codes.
        rate: KL of each dimension to the prior that the model's objective charges, in nats, shape (B, K); None
            for deterministic codes.
    """

    mean: Array
    variance: Array | None
    entropy: Array | None
    rate: Array | None


class PosteriorFamily(Protocol):
    """How the heads of an encoder become a posterior."""

    @property
    def second_head(self) -> str | None:
        """Name of the head beside `mu`: `p`, `logvar`, or None for deterministic codes."""

    @property
    def rest_p(self) -> float | None:
        """The p at which a dimension that carries nothing rests; None where the family has no p."""

    @property
    def rate_floor(self) -> float | Array | None:
        """Rate of a dimension that carries nothing, in nats: one for all, or one each (K,); None without a rate."""

    @property
    def type_tolerance(self) -> float:
        """By how much the limits of passive and active posterior variances are widened for the family's own laws."""

    def posterior(self, mu: Array, second: Array | None) -> Posterior:
        """Posterior for the heads `mu` and `second`, both of shape (B, K); `second` is None without a second head."""

    def density(self, offset: Array, second: float, k: int) -> Array:
        """Density of z_k at mu_k + offset, shape (G,), where the second head of dimension k is `second`."""


@dataclass(frozen=True)
class GaussianPosterior:
    """N(mu, exp(logvar)) with the prior N(0, 1): plain VAE, beta-VAE and their kin (Kingma and Welling 2014)."""

    second_head = "logvar"
    rest_p = None
    rate_floor = 0.0
    type_tolerance = 0.0

    def posterior(self, mu: Array, second: Array | None) -> Posterior:
        """Posterior for the heads `mu` and `logvar`."""
        second = _given(second)
        variance = np.exp(second)
        rate = 0.5 * (mu * mu + variance - 1 - second)
        return Posterior(mu, variance, 0.5 * (math.log(2 * math.pi * math.e) + second), rate)

    def density(self, offset: Array, second: float, k: int) -> Array:  # noqa: ARG002 - one law for every dimension
        """Normal density with the variance exp(second); not finite where that is no double."""
        inverse = np.exp(-0.5 * np.float64(second))
        return np.asarray(np.exp(-0.5 * (offset * inverse) ** 2) * (inverse / math.sqrt(2 * math.pi)))


@dataclass(frozen=True)
class DeterministicPosterior:
    """Codes without a posterior: plain autoencoders, or encoders of which only mu is known."""

    second_head = None
    rest_p = None
    rate_floor = None
    type_tolerance = 0.0

    def posterior(self, mu: Array, second: Array | None) -> Posterior:  # noqa: ARG002 - there is none
        """The codes, and nothing else."""
        return Posterior(mu, None, None, None)

    def density(self, offset: Array, second: float, k: int) -> Array:  # noqa: ARG002 - there is none
        """There is none.

        Raises:
            TypeError: Always; information about x is infinite for a deterministic code.
        """
        raise TypeError("a deterministic code has no density")


@dataclass(frozen=True)
class NormalGammaPosterior:
    """The paper's relaxation: NG(mu, alpha(p), beta(p)) with the interpolation of Eq. 5.

    The marginal of z is a Student-t with 2 alpha degrees of freedom and scale sqrt(beta / alpha).
    """

    informative: GammaLaw = INFORMATIVE
    uninformative: GammaLaw = UNINFORMATIVE
    slope: float = SLOPE

    second_head = "p"
    type_tolerance = TYPE_TOLERANCE

    @property
    def rate_floor(self) -> float:
        """KL of the uninformative law to the prior (Eq. 10 at p = 1): 3.56 nats at the paper's values.

        A dimension at the interior minimum costs less; its rate above the floor is then negative.
        """
        alpha, beta = self.parameters(np.ones(1))
        return float(_gamma_kl(alpha, beta, PRIOR)[0])

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

    def posterior(self, mu: Array, second: Array | None) -> Posterior:
        """Posterior for the heads `mu` and `p`; the rate is the KL of (z, lambda), Eq. 9 and 10."""
        alpha, beta = self.parameters(_given(second))
        rate = 0.5 * mu * mu * alpha / beta + _gamma_kl(alpha, beta, PRIOR)
        return Posterior(mu, beta / (alpha - 1), student_t_entropy(alpha, np.sqrt(beta / alpha)), rate)

    def density(self, offset: Array, second: float, k: int) -> Array:  # noqa: ARG002 - one law for every dimension
        """Student-t density with 2 alpha(p) degrees of freedom and scale sqrt(beta(p) / alpha(p))."""
        alpha, beta = (float(v) for v in self.parameters(np.asarray(second)))
        return student_t_density(offset, alpha, math.sqrt(beta / alpha))


@dataclass(frozen=True)
class NormalGammaMixturePosterior:
    """The exact mixture of Eq. 4 with w = 1 - p the weight of the informative law.

    The marginal of z is a mixture of two Student-t laws around one mean. Its entropy has no closed form: it
    is integrated on a table of weights for each dimension, then interpolated (error below 1e-4 nat).

    Attributes:
        informative_beta: Rate of the informative law, one value a dimension, shape (K,).
        prior_weight: Prior weight pi of the informative law, one for all dimensions, or one each (K,).
        unused_prior_weight: pi of a dimension that carries nothing, where each has its own; None where one
            holds for all.
    """

    informative_alpha: float
    informative_beta: tuple[float, ...]
    uninformative: GammaLaw = UNINFORMATIVE
    prior_weight: float | tuple[float, ...] = math.exp(-1)
    unused_prior_weight: float | None = None

    second_head = "p"
    type_tolerance = TYPE_TOLERANCE

    @cached_property
    def rate_floor(self) -> Array:
        """Least bound of a dimension with mu = 0 and its own two laws, -log(sum of weights exp(-A_c)), shape (K,).

        The weights are those of an unused dimension.
        """
        pi = self._rest_weight
        return -np.log(pi * np.exp(-self._informative_kl) + (1 - pi) * math.exp(-anchored_kl(self.uninformative)))

    @cached_property
    def _informative_kl(self) -> Array:
        """A_i at mu = 0 of each dimension, shape (K,)."""
        laws = (GammaLaw(self.informative_alpha, beta) for beta in self.informative_beta)
        return np.array([anchored_kl(law) for law in laws])

    @property
    def _rest_weight(self) -> float:
        if self.unused_prior_weight is not None:
            return self.unused_prior_weight
        # Without the number that says it, the least used dimension is the best guess.
        return min(self.prior_weight) if isinstance(self.prior_weight, tuple) else self.prior_weight

    @property
    def rest_p(self) -> float:
        """The p that minimises the bound for a dimension with mu = 0 whose scale is free to adapt.

        A_i is least at beta = alpha - 1, that is at s^2 = (alpha - 1) / alpha; the optimum is then w
        proportional to pi exp(-A_i) against (1 - pi) exp(-A_u).
        """
        # The bound's A_i at its best scale: E[1/lambda] = 1.
        informative = anchored_kl(GammaLaw(self.informative_alpha, self.informative_alpha - 1))
        pi = self._rest_weight
        odds = pi / (1 - pi) * math.exp(anchored_kl(self.uninformative) - informative)
        return 1 / (1 + odds)

    def posterior(self, mu: Array, second: Array | None) -> Posterior:
        """Posterior for the heads `mu` and `p`; the rate is the bound on the KL of (z, lambda)."""
        second = _given(second)
        weight = 1 - second
        beta = np.asarray(self.informative_beta)
        variance = weight * (beta / (self.informative_alpha - 1)) + second * self.uninformative.variance
        return Posterior(mu, variance, self._entropy(weight), self._rate(mu, weight))

    def density(self, offset: Array, second: float, k: int) -> Array:
        """Density of the mixture of the two Student-t laws of dimension k."""
        scale = math.sqrt(self.informative_beta[k] / self.informative_alpha)
        narrow = student_t_density(offset, self.informative_alpha, scale)
        wide = student_t_density(offset, self.uninformative.alpha, self.uninformative.scale)
        return (1 - second) * narrow + second * wide

    def _rate(self, mu: Array, weight: Array) -> Array:
        """The bound: w log(w/pi) + (1-w) log((1-w)/(1-pi)) + w A_i + (1-w) A_u."""
        from scipy.special import xlogy

        rest, pi = 1 - weight, np.asarray(self.prior_weight)
        index = xlogy(weight, weight) - weight * np.log(pi) + xlogy(rest, rest) - rest * np.log1p(-pi)
        kl = weight * self._informative_kl + rest * anchored_kl(self.uninformative)
        return np.asarray(index + kl + 0.5 * mu * mu)

    def _entropy(self, weight: Array) -> Array:
        """Entropies (B, K), linear between the nodes of the table, which are even in the angle."""
        table = self._entropy_table
        last = table.shape[1] - 1
        place = np.arcsin(np.sqrt(weight.clip(0, 1))) * (last / (np.pi / 2))
        node = np.minimum(place.astype(np.int64), last - 1)
        rest = place - node
        node += np.arange(len(table)) * table.shape[1]
        low, high = table.ravel()[node], table.ravel()[node + 1]
        return np.asarray(low + rest * (high - low))

    @cached_property
    def _entropy_table(self) -> Array:
        # Nodes in the angle asin(sqrt(w)) crowd at both ends, where the entropy bends like w log w.
        weights = np.sin(np.linspace(0, np.pi / 2, 513)) ** 2
        scales = np.sqrt(np.asarray(self.informative_beta) / self.informative_alpha)
        return np.stack([self._entropies(weights, scale) for scale in scales])

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


def _given(second: Array | None) -> Array:
    assert second is not None, "this family has a second head"
    return second


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


_WITHOUT_HYPERPARAMETERS: Mapping[str, PosteriorFamily] = {
    "gaussian": GaussianPosterior(),
    "deterministic": DeterministicPosterior(),
}


def family_of(name: str, latent_dim: int, hyperparameters: Hyperparameters) -> PosteriorFamily:
    """The posterior family that an encoder's metadata name.

    Args:
        name: `gaussian`, `normal-gamma`, `normal-gamma-mixture` or `deterministic`.
        latent_dim: Number K of latent dimensions.
        hyperparameters: Scalars or one value a dimension; the paper's values stand in for absent ones.

    Raises:
        ContractError: The name is unknown or a value is outside its range.
    """
    if name in _WITHOUT_HYPERPARAMETERS:
        return _WITHOUT_HYPERPARAMETERS[name]
    if name not in ("normal-gamma", "normal-gamma-mixture"):
        raise ContractError(
            "the model's posterior family is unknown",
            expected="gaussian, normal-gamma, normal-gamma-mixture or deterministic",
            found=repr(name),
            remedy="export the model again, or use the version of ngvae-tools that made it",
        )

    uninformative = GammaLaw(
        _scalar(hyperparameters, "uninformative_alpha", UNINFORMATIVE.alpha),
        _scalar(hyperparameters, "uninformative_beta", UNINFORMATIVE.beta),
    )
    alpha = _scalar(hyperparameters, "informative_alpha", INFORMATIVE.alpha)
    for key, value in (("informative_alpha", alpha), ("uninformative_alpha", uninformative.alpha)):
        if value <= 1:
            raise _bad_hyperparameter(key, "a number above 1, so that the variance is finite", value)
    if name == "normal-gamma":
        informative = GammaLaw(alpha, _scalar(hyperparameters, "informative_beta", INFORMATIVE.beta))
        return NormalGammaPosterior(informative, uninformative, _scalar(hyperparameters, "slope", SLOPE))
    return _mixture(alpha, uninformative, latent_dim, hyperparameters)


def _mixture(
    alpha: float, uninformative: GammaLaw, latent_dim: int, hyperparameters: Hyperparameters
) -> NormalGammaMixturePosterior:
    beta = hyperparameters.get("informative_beta", INFORMATIVE.beta)
    betas = beta if isinstance(beta, tuple) else (beta,) * latent_dim
    if len(betas) != latent_dim or not all(math.isfinite(b) and b > 0 for b in betas):
        raise _bad_hyperparameter("informative_beta", f"a positive number, or {latent_dim} of them", beta)
    prior_weight = hyperparameters.get("prior_weight", math.exp(-1))
    weights = prior_weight if isinstance(prior_weight, tuple) else (prior_weight,) * latent_dim
    if len(weights) != latent_dim or not all(0 < weight < 1 for weight in weights):
        raise _bad_hyperparameter("prior_weight", f"a number between 0 and 1, or {latent_dim} of them", prior_weight)
    unused = None
    if "unused_prior_weight" in hyperparameters:
        unused = _scalar(hyperparameters, "unused_prior_weight", 0.5)
        if unused >= 1:
            raise _bad_hyperparameter("unused_prior_weight", "a number between 0 and 1", unused)
    return NormalGammaMixturePosterior(alpha, betas, uninformative, prior_weight, unused)


def _scalar(hyperparameters: Hyperparameters, key: str, default: float) -> float:
    value = hyperparameters.get(key, default)
    if isinstance(value, tuple) or not math.isfinite(value) or value <= 0:
        raise _bad_hyperparameter(key, "a positive number", value)
    return value


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
