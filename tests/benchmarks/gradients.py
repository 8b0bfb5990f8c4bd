"""Variance, bias and cost of the gradient estimators, on one problem each at the paper's noise level and ours.

`python tests/benchmarks/gradients.py`

The problem: an NGVAE is trained for a while, then its decoder and its posterior means for one batch are held, with p
spread evenly over PS, where Eq. 5 bends (left to itself, p goes where its gradient is nought). What is estimated is
the gradient of the batch's mean distortion to the K biases of the p head, by one draw. The paper's relaxation (Eq. 5)
and the exact mixture (Eq. 4) are two laws of z and have each a gradient of its own. Reference: central finite
differences of the mean distortion over draws whose quantile is held (common random numbers), by scipy.

The paper names the Jacobian matrix over the batches as its main limitation. `jacobian` makes it: K x K for each image
by automatic differentiation, image by image or for all images at once; the density is that of g-rep.
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.distributions import Gamma

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import render, sample_factors
from ngvae_tools.laws import INFORMATIVE, SLOPE, UNINFORMATIVE
from ngvae_tools.posteriors import student_t_density
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.gradients import LatentSample, g_rep
from ngvae_tools.training.model import BatchParts, VariationalAutoencoder
from ngvae_tools.training.objectives import PaperObjective

SIZE = 32
BATCH = 64
SIGMAS = (0.02, 0.245)
STEPS = 1000
DRAWS = 400
STEP = 0.005
PS = (0.35, 0.5)
ROUNDS = 30


def jacobian_g_rep(mu: Tensor, alpha: Tensor, beta: Tensor, generator, *, at_once: bool) -> LatentSample:
    """g-rep with log q(eps) = log q(lambda) + log |det dlambda/deps|, the matrix by automatic differentiation."""
    with torch.no_grad():
        log_gamma = torch._standard_gamma(alpha, generator).log()
        eps = (log_gamma - torch.digamma(alpha)) / torch.polygamma(1, alpha).sqrt()

    def transform(eps: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        return (eps * torch.polygamma(1, alpha).sqrt() + torch.digamma(alpha)).exp() / beta

    if at_once:
        matrices = torch.func.vmap(torch.func.jacrev(transform))(eps, alpha, beta)
    else:
        rows = [
            torch.autograd.functional.jacobian(functools.partial(transform, alpha=a, beta=b), e, create_graph=True)
            for e, a, b in zip(eps, alpha, beta, strict=True)
        ]
        matrices = torch.stack(rows)
    lam = transform(eps, alpha, beta)
    log_density = Gamma(alpha, beta).log_prob(lam).sum(dim=1) + torch.linalg.slogdet(matrices).logabsdet
    noise = torch.randn(mu.shape, generator=generator, dtype=mu.dtype)
    return LatentSample(mu + lam.rsqrt() * noise, log_density)


@dataclass(frozen=True)
class Kind:
    """An estimator: the options that choose it, and another way to draw in its place."""

    name: str
    options: dict[str, object]
    estimator: Callable[..., LatentSample] | None = None

    def model(self, sigma: float) -> VariationalAutoencoder:
        """An untrained model that trains with it."""
        config = TrainingConfig(sigma=sigma, **self.options)
        model = VariationalAutoencoder(config, (SIZE, SIZE, 3), InputScale())
        if self.estimator is not None:
            assert isinstance(model.objective, PaperObjective)
            model.objective.estimator = self.estimator
        return model


PAPER = {"objective": "paper"}
MIXTURE = {"objective": "mixture"}
G_REP = {"gradient": "g-rep"}
PLAIN = {"control_variate": False}
KINDS = (
    Kind("paper: pathwise", PAPER),
    Kind("paper: g-rep", PAPER | G_REP),
    Kind("paper: g-rep, no control variate", PAPER | G_REP | PLAIN),
    Kind("mixture: pathwise", MIXTURE),
    Kind("mixture: g-rep", MIXTURE | G_REP),
    Kind("mixture: g-rep, no control variate", MIXTURE | G_REP | PLAIN),
)
COSTS = (
    Kind("plain VAE", {"model": "vae"}),
    *KINDS,
    Kind("paper: g-rep, jacobian at once", PAPER | G_REP, functools.partial(jacobian_g_rep, at_once=True)),
    Kind("paper: g-rep, jacobian by image", PAPER | G_REP, functools.partial(jacobian_g_rep, at_once=False)),
)


def trained(sigma: float, images: Tensor) -> VariationalAutoencoder:
    """The printed objective after STEPS steps."""
    model = Kind("", PAPER).model(sigma)
    step = stepper(model)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        step(images[torch.randint(len(images), (BATCH,), generator=generator)])
    return model


def stepper(model: VariationalAutoencoder) -> Callable[[Tensor], None]:
    """A function that makes one training step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)

    def step(samples: Tensor) -> None:
        loss = model.surrogate(model(samples, generator))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


class Problem:
    """A held batch: images, decoder, means and logits of p."""

    def __init__(self, sigma: float, images: Tensor) -> None:
        self.sigma = sigma
        self.generator = torch.Generator().manual_seed(2)
        model = trained(sigma, images)
        self.samples = images[:BATCH]
        self.decoder = model.decoder.requires_grad_(requires_grad=False)
        with torch.no_grad():
            self.images = model.encoder.images(self.samples)
            self.mu, _ = model.encoder(self.images)
            low, high = PS
            self.raw = torch.logit(low + (high - low) * torch.rand(self.mu.shape, generator=self.generator))

    def nll(self, z: Tensor) -> Tensor:
        """Eq. 8, shape (B,)."""
        return ((self.images - self.decoder(z)) ** 2).flatten(1).sum(dim=1) / (2 * self.sigma**2)

    def gradients(self, kind: Kind) -> Tensor:
        """Single-draw gradients of the mean nll to the biases of the p head, shape (DRAWS, K)."""
        model = kind.model(self.sigma)
        gradients = []
        for _ in range(DRAWS):
            bias = torch.zeros(self.raw.shape[1], requires_grad=True)
            drawn = model.objective.sample(self.mu, self.raw + bias, self.generator)
            nll = self.nll(drawn.z)
            gradients.append(torch.autograd.grad(model.surrogate(_parts(nll, drawn)), bias)[0])
        return torch.stack(gradients)

    def reference(self, law: str) -> Tensor:
        """Finite differences along (1, ..., 1), one for each of DRAWS held draws of the batch, shape (DRAWS,)."""
        rng = np.random.default_rng(3)
        logits = self.raw.double().numpy()
        scale = np.full(logits.shape[1], INFORMATIVE.scale)
        slopes = []
        for _ in range(DRAWS):
            if law == "paper":
                at = held_paper(logits, SLOPE, rng)
            else:
                at = functools.partial(held_mixture(logits, scale, rng), scale=scale)
            high, low = (self.mean_nll(at(logits + step)) for step in (STEP, -STEP))
            slopes.append((high - low) / (2 * STEP))
        return torch.tensor(slopes)

    def mean_nll(self, offsets: np.ndarray) -> float:
        """Mean nll over the batch where z is mu + offsets."""
        with torch.no_grad():
            return float(self.nll(self.mu + torch.from_numpy(offsets).float()).double().mean())


def _parts(nll: Tensor, drawn: LatentSample) -> BatchParts:
    nothing = torch.zeros_like(drawn.z)
    return BatchParts(
        squared_error=nll,
        nll=nll,
        rate=nothing,
        second=nothing,
        posterior_variance=nothing,
        noise_log_density=drawn.noise_log_density,
        penalty=None,
        mu=nothing,
        raw=nothing,
        z=drawn.z,
    )


def held_paper(logits: np.ndarray, slope: float, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """z - mu of the paper's law as a function of the logits of p, the quantile of lambda and eps_2 held.

    Args:
        logits: Logits of p, any shape; the function takes others near them.
        slope: r of Eq. 5.
        rng: Draws the quantiles and eps_2.
    """
    objective = PaperObjective(slope)

    def laws(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        alpha, beta = objective.parameters_of(torch.sigmoid(torch.from_numpy(logits)))
        return alpha.numpy(), beta.numpy()

    alpha, _ = laws(logits)
    gamma = rng.standard_gamma(alpha)
    lower, upper = special.gammainc(alpha, gamma), special.gammaincc(alpha, gamma)
    noise = rng.standard_normal(logits.shape)

    def at(logits: np.ndarray) -> np.ndarray:
        alpha, beta = laws(logits)
        inverse = np.where(lower < 0.5, special.gammaincinv(alpha, lower), special.gammainccinv(alpha, upper))
        return noise / np.sqrt(inverse / beta)

    return at


def held_mixture(
    logits: np.ndarray, scale: np.ndarray, rng: np.random.Generator
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """z - mu of the exact mixture as a function of the logits of p and of the informative scale, its quantile held.

    Args:
        logits: Logits of p, shape (..., K); the function takes others near them.
        scale: Scales s of the informative law, shape (K,).
        rng: Draws the quantiles.
    """
    shapes = (INFORMATIVE.alpha, UNINFORMATIVE.alpha)
    informative = rng.random(logits.shape) < special.expit(-logits)
    narrow, wide = (rng.standard_t(2 * alpha, logits.shape) for alpha in shapes)
    start = np.where(informative, scale * narrow, UNINFORMATIVE.scale * wide)

    def mix(law: Callable[..., np.ndarray], t: np.ndarray, logits: np.ndarray, scale: np.ndarray) -> np.ndarray:
        narrow, wide = (law(t, alpha, s) for alpha, s in zip(shapes, (scale, UNINFORMATIVE.scale), strict=True))
        return special.expit(-logits) * narrow + special.expit(logits) * wide

    def cdf(t: np.ndarray, alpha: float, scale: np.ndarray) -> np.ndarray:
        return special.stdtr(2 * alpha, t / scale)

    def density(t: np.ndarray, alpha: float, scale: np.ndarray) -> np.ndarray:
        return student_t_density(t / scale, alpha, 1.0) / scale

    level = mix(cdf, start, logits, scale)

    def at(logits: np.ndarray, scale: np.ndarray) -> np.ndarray:
        t = start
        for _ in range(2):  # Newton's steps; the start is near.
            t = t - (mix(cdf, t, logits, scale) - level) / mix(density, t, logits, scale)
        return t

    return at


def compare(problem: Problem) -> None:
    """Print bias and variance of each estimator."""
    model = Kind("", PAPER).model(problem.sigma)
    nll = problem.nll(model.objective.sample(problem.mu, problem.raw, problem.generator).z)
    print(f"\nsigma {problem.sigma}: nll {float(nll.mean()):,.0f} nats an image")
    print(f"{'':36} {'gradient':>10} {'reference':>10} {'bias':>9} {'its s.e.':>9} {'variance':>10} {'ratio':>9}")
    references = {law: problem.reference(law) for law in ("paper", "mixture")}
    least: dict[str, float] = {}
    for kind in KINDS:
        law = kind.name.split(":")[0]
        reference, gradients = references[law], problem.gradients(kind).double()
        along = gradients.sum(dim=1)
        error = math.sqrt((float(along.var()) + float(reference.var())) / DRAWS)
        variance = float(gradients.var(dim=0).sum())
        ratio = variance / least.setdefault(law, variance)
        bias = float(along.mean() - reference.mean())
        print(
            f"{kind.name:36} {float(along.mean()):10.3f} {float(reference.mean()):10.3f} {bias:9.3f} {error:9.3f} "
            f"{variance:10.3g} {ratio:9.3g}"
        )


def costs(images: Tensor) -> None:
    """Print milliseconds of a draw with its gradient and of a whole training step, in rounds of one each."""
    samples = images[:BATCH]
    heads = torch.randn(2, BATCH, 15)
    models = [kind.model(SIGMAS[0]) for kind in COSTS]
    steps = [stepper(model) for model in models]
    step_seconds: list[list[float]] = [[] for _ in COSTS]
    draw_seconds: list[list[float]] = [[] for _ in COSTS]
    for _ in range(ROUNDS + 1):
        for i, (model, step) in enumerate(zip(models, steps, strict=True)):
            mu, raw = heads.clone().requires_grad_().unbind()
            start = time.perf_counter()
            drawn = model.objective.sample(mu, raw)
            total = drawn.z.sum() + (0 if drawn.noise_log_density is None else drawn.noise_log_density.sum())
            total.backward()
            middle = time.perf_counter()
            step(samples)
            draw_seconds[i].append(middle - start)
            step_seconds[i].append(time.perf_counter() - middle)
    print(
        f"\nmilliseconds at {SIZE}x{SIZE}, batch {BATCH}, K = 15, {torch.get_num_threads()} thread; medians of {ROUNDS}"
    )
    print(f"{'':36} {'draw':>9} {'step':>9} {'to plain':>9}")
    for kind, draws, whole in zip(COSTS, draw_seconds, step_seconds, strict=True):
        # The first round warms up.
        ratio = statistics.median(a / b for a, b in zip(whole[1:], step_seconds[0][1:], strict=True))
        draw, step_ = (1e3 * statistics.median(seconds[1:]) for seconds in (draws, whole))
        print(f"{kind.name:36} {draw:9.3f} {step_:9.2f} {ratio:9.2f}")


def check_densities() -> None:
    """Print how far the matrices' densities are from the element-wise one."""
    alpha, beta = PaperObjective().parameters_of(torch.rand(BATCH, 15, dtype=torch.float64))
    densities = [
        draw(torch.zeros_like(alpha), alpha, beta, torch.Generator().manual_seed(0)).noise_log_density
        for draw in (g_rep, COSTS[-2].estimator, COSTS[-1].estimator)
    ]
    furthest = max(float((density - densities[0]).detach().abs().max()) for density in densities[1:])
    print(f"\nlog q(eps) through the matrix differs from the element-wise one by at most {furthest:.1e} nat")


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    images = torch.from_numpy(render(sample_factors(4000, seed=0), size=SIZE))
    for sigma in SIGMAS:
        compare(Problem(sigma, images))
    check_densities()
    costs(images)


if __name__ == "__main__":
    main()
