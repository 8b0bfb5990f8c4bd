"""Rules that say which latent dimensions are informative."""

from __future__ import annotations

import numpy as np

from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.errors import OptionError
from ngvae_tools.posteriors import PosteriorFamily
from ngvae_tools.record import Selection

RULES = ("p", "variance")

THRESHOLD = 0.5
"""Mean p, or mean posterior variance, below which a dimension is informative, where nothing speaks against it."""


def default_rule(family: PosteriorFamily) -> str:
    """The rule that a family is made for: `p` where the encoder has that head, else `variance`."""
    return "p" if family.rest_p is not None else "variance"


def default_threshold(family: PosteriorFamily, rule: str) -> float:
    """0.5; for `p` half the rest point of an unused dimension where that point does not lie above 0.5."""
    rest = family.rest_p
    return rest / 2 if rule == "p" and rest is not None and rest <= THRESHOLD else THRESHOLD


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
            expected=" or ".join(RULES),
            found=repr(rule),
            remedy="pass one of them with --rule, or leave it out",
        )
    if rule == "p" and family.rest_p is None:
        raise OptionError(
            "rule p does not apply to this encoder",
            expected="an encoder with a head p",
            found="heads mu and logvar",
            remedy="use --rule variance",
        )
    threshold = default_threshold(family, rule) if threshold is None else threshold
    top = family.rest_p if rule == "p" and family.rest_p is not None else np.inf
    if not 0 < threshold < top:
        unused = f" and {top:.3f}, where an unused dimension of this encoder rests" if np.isfinite(top) else ""
        raise OptionError(
            f"threshold {threshold:g} of rule {rule} separates nothing",
            expected=f"a number between 0{unused}" if unused else "a number above 0",
            found=f"{threshold:g}",
            remedy="pass another --threshold",
        )
    return rule, threshold


def select(statistics: LatentStatistics, rule: str, threshold: float) -> Selection:
    """Apply one rule: a dimension is informative where its score lies below the threshold.

    `p`: the mean over images of p (Section IV of the paper, near 0 = informative). `variance`: the mean over
    images of the posterior variance (the paper's rule of thumb for encoders without p).
    """
    moments = statistics.p if rule == "p" else statistics.variance
    assert moments is not None
    score = moments.mean
    return Selection(
        rule=rule,
        threshold=threshold,
        score=tuple(float(s) for s in score),
        informative=tuple(bool(s < threshold) for s in score),
    )
