"""Rules that say which latent dimensions are informative, each a score and a threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ngvae_tools.analysis.moments import Array
from ngvae_tools.errors import OptionError
from ngvae_tools.posteriors import PosteriorFamily
from ngvae_tools.record import Selection

GIVEN = "given"
"""Rule of a selection that the user made, or that another data set led to."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers that rules judge by; the last axis is the K dimensions, others are replicates.

    None: the family or the number of images does not define it.

    Attributes:
        mu_variance: Variance over images of the posterior mean.
        variance: Mean posterior variance.
        variance_std: Standard deviation over images of the posterior variance.
        p: Mean p (near 0 = informative).
        rate: Mean rate, nats.
        information: I(x; z_k), nats.
    """

    mu_variance: Array | None
    variance: Array | None = None
    variance_std: Array | None = None
    p: Array | None = None
    rate: Array | None = None
    information: Array | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One criterion.

    Attributes:
        name: As `--rule` takes it.
        keeps: On which side of the threshold a dimension is informative.
        threshold: The default; for `p` see `default_threshold`.
        score: The score of every dimension; None where the rule does not apply.
        source: Where the rule and its threshold come from.
    """

    name: str
    keeps: Literal["below", "above"]
    threshold: float
    score: Callable[[Scores, PosteriorFamily], Array | None]
    source: str


PASSIVE, MIXED, ACTIVE = 0.0, 1.0, 2.0
TYPES: tuple[Literal["passive", "mixed", "active"], ...] = ("passive", "mixed", "active")


def latent_types(scores: Scores, family: PosteriorFamily) -> Array | None:
    """0 passive, 1 mixed, 2 active, by the posterior variance over the data (Bonheme and Grzes 2023).

    Passive: its variance is below 0.1 and its mean between 0.9 and 1.1. Active: its variance is below 0.1 and its
    mean at most 0.1. NGVAE's two laws lie on these limits, which are widened by the family's tolerance.
    """
    if scores.variance is None or scores.variance_std is None:
        return None
    steady = scores.variance_std**2 < 0.1
    room = family.type_tolerance
    passive = steady & (scores.variance >= 0.9 - room) & (scores.variance <= 1.1 + room)
    active = steady & (scores.variance <= 0.1 + room)
    types = np.where(passive, PASSIVE, np.where(active, ACTIVE, MIXED))
    return np.where(np.isfinite(scores.variance_std), types, np.nan)


def signal_to_noise(scores: Scores) -> Array | None:
    """Variance of mu over mean posterior variance; the largest number where there is no noise."""
    if scores.variance is None or scores.mu_variance is None:
        return None
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = np.where(scores.mu_variance == 0, 0.0, scores.mu_variance / scores.variance)
    return np.minimum(ratio, np.finfo(np.float64).max)


def _rate_above_floor(scores: Scores, family: PosteriorFamily) -> Array | None:
    if scores.rate is None or family.rate_floor is None:
        return None
    return np.asarray(scores.rate - family.rate_floor)


RULES = {
    rule.name: rule
    for rule in (
        Rule("p", "below", 0.5, lambda scores, _: scores.p, "mean p (the paper, Section IV)"),
        Rule(
            "variance", "below", 0.5, lambda scores, _: scores.variance, "mean posterior variance (the paper, Table I)"
        ),
        Rule("active", "above", 0.01, lambda scores, _: scores.mu_variance, "active units (Burda et al. 2016)"),
        Rule("rate", "above", 0.1, _rate_above_floor, "rate above the family's floor, nats"),
        Rule("information", "above", 0.1, lambda scores, _: scores.information, "I(x; z_k), nats"),
        Rule("type", "above", 0.5, latent_types, "not passive (Bonheme and Grzes 2023)"),
        Rule("snr", "above", 1.0, lambda scores, _: signal_to_noise(scores), "variance of mu over posterior variance"),
    )
}


def default_rule(family: PosteriorFamily) -> str:
    """The rule that a family is made for: `p` where the encoder has it, `variance`, or `active` for codes alone."""
    if family.second_head is None:
        return "active"
    return "p" if family.rest_p is not None else "variance"


def default_threshold(family: PosteriorFamily, rule: str) -> float:
    """The rule's own; for `p` half the rest point of an unused dimension where that point does not lie above 0.5."""
    rest, threshold = family.rest_p, RULES[rule].threshold
    return rest / 2 if rule == "p" and rest is not None and rest <= threshold else threshold


def check_rule(family: PosteriorFamily, rule: str | None, threshold: float | None) -> tuple[str, float]:
    """The rule and threshold to use, defaults filled in.

    Raises:
        OptionError: The rule is unknown or does not apply to the family, or the threshold separates nothing:
            for `p` it must lie between 0 and the rest point of an unused dimension.
    """
    rule = rule or default_rule(family)
    if rule not in RULES:
        raise OptionError(
            "the rule is unknown",
            expected=", ".join(RULES),
            found=repr(rule),
            remedy="pass one of them with --rule, or leave it out",
        )
    applying = [name for name in RULES if _applies(name, family)]
    if rule not in applying:
        raise OptionError(
            f"rule {rule} does not apply to this encoder",
            expected=f"one of {', '.join(applying)}",
            found=f"heads mu and {family.second_head}" if family.second_head else "the head mu alone",
            remedy=f"use --rule {default_rule(family)}",
        )
    threshold = default_threshold(family, rule) if threshold is None else threshold
    top = family.rest_p if rule == "p" and family.rest_p is not None else 2.0 if rule == "type" else np.inf
    if not 0 < threshold < top:
        unused = f" and {top:.3f}, where an unused dimension of this encoder rests" if rule == "p" else f" and {top:g}"
        raise OptionError(
            f"threshold {threshold:g} of rule {rule} separates nothing",
            expected=f"a number between 0{unused}" if np.isfinite(top) else "a number above 0",
            found=f"{threshold:g}",
            remedy="pass another --threshold",
        )
    return rule, threshold


def _applies(rule: str, family: PosteriorFamily) -> bool:
    return rule == "active" or (family.second_head is not None and (rule != "p" or family.rest_p is not None))


def select(
    scores: Scores,
    family: PosteriorFamily,
    rule: str,
    threshold: float,
    count_interval: tuple[int, int] | None = None,
) -> Selection | None:
    """Apply one rule; None where the family or the number of images does not define its score."""
    score = RULES[rule].score(scores, family)
    if score is None:
        return None
    return Selection(
        rule=rule,
        threshold=threshold,
        keeps=RULES[rule].keeps,
        score=tuple(score.tolist()),
        informative=tuple(verdicts(score, rule, threshold).tolist()),
        count_interval=count_interval,
    )


def verdicts(score: Array, rule: str, threshold: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which scores are informative; a score at an upper threshold of its rule counts."""
    return np.asarray(score < threshold if RULES[rule].keeps == "below" else score >= threshold)


def given(dimensions: Sequence[int], latent_dim: int) -> Selection:
    """The selection of dimensions that somebody named.

    Raises:
        OptionError: A dimension is named twice, or the encoder does not have it.
    """
    chosen = np.zeros(latent_dim, dtype=bool)
    outside = [k for k in dimensions if not 0 <= k < latent_dim]
    if outside or len(set(dimensions)) < len(dimensions):
        raise OptionError(
            "the named dimensions cannot be kept",
            expected=f"different numbers from 0 to {latent_dim - 1}",
            found=", ".join(map(str, dimensions)),
            remedy="correct --dimensions",
        )
    chosen[list(dimensions)] = True
    return Selection(GIVEN, 0.5, "above", tuple(chosen.astype(float).tolist()), tuple(chosen.tolist()))
