"""The sentences that say what limits a verdict, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ngvae_tools.analysis.indices import indices
from ngvae_tools.analysis.selection import GIVEN
from ngvae_tools.analysis.survey import Findings
from ngvae_tools.posteriors import GaussianPosterior, NormalGammaPosterior
from ngvae_tools.record import IntrinsicDimension, Selection

CLOSE = 0.05
"""A mean p or mean posterior variance this near to the threshold could fall on its other side in another training."""

UNSETTLED_P = 0.3
"""Above this standard deviation over images, p is near 0 for some images and near 1 for others."""

GROWN = 4.0
"""Variance of mu from which the scale of a dimension that p calls uninformative has grown beyond the prior's."""

FAR_MEAN, FAR_VARIANCE = 1.5, 1.5
"""Mean of mu, and mean posterior variance, beyond which latents are far from a prior N(0, 1): at its optimum a VAE has
a mean near 0, and no posterior wider than the prior."""

REDUNDANT = 1.5
"""Informative dimensions per dimension of their cloud from which a code is called redundant; the hue circle of the
paper's sprites takes two dimensions for one, and closed curves and surfaces take more than their own dimension."""


def notes_on(findings: Findings, rules: Sequence[Selection], intrinsic: IntrinsicDimension | None) -> tuple[str, ...]:
    """Sentences on what limits the verdict; `rules` begins with the one that was chosen."""
    redundancy = tuple(_on_redundancy(intrinsic))
    return (
        *_on_the_family(findings),
        *_on_the_prior(findings),
        *_on_agreement(findings, rules),
        *redundancy,
        *_on_the_choice(rules, several=findings.n_images > 1, redundant=bool(redundancy)),
        *_on_single_images(findings),
        *_on_the_sample(findings),
    )


def listed(dimensions: Sequence[int]) -> str:
    """`dimension 3`, `dimensions 3, 5`, `dimensions 0-4`."""
    return f"dimension{'s' if len(dimensions) > 1 else ''} {indices(dimensions)}"


def _counted(count: int) -> str:
    return "1 dimension" if count == 1 else f"{count} dimensions"


def _on_the_family(findings: Findings) -> Iterator[str]:
    family = findings.family
    if isinstance(family, NormalGammaPosterior):
        p, kl = family.interior_minimum()
        yield (
            f"Under the paper's printed objective a dimension that carries nothing is drawn to p = {p:.3f}, where "
            f"its KL is {kl:.3f} nat, and an informative one can hide at p near 1 by growing mu: read p with care."
        )
    if family.second_head is None:
        yield (
            "The codes are deterministic: they have no posterior, so only the rule active applies, and its threshold "
            "depends on the scale of the codes. The latent file keeps them to 0.1 % of their standard deviation."
        )


def _on_the_prior(findings: Findings) -> Iterator[str]:
    """Swapped heads, a standard deviation named as log-variance and a wrong input range all show here."""
    mean, variance = findings.statistics.mu.mean, findings.scores.variance
    moves = findings.scores.mu_variance
    if not isinstance(findings.family, GaussianPosterior) or variance is None or moves is None or not moves.any():
        return
    far = np.flatnonzero((np.abs(mean) > FAR_MEAN) | (variance > FAR_VARIANCE)).tolist()
    if far:
        worst = max(far, key=lambda k: max(abs(mean[k]), variance[k]))
        yield (
            f"The latents of {listed(far)} are far from a prior N(0, 1) (dimension {worst}: mean {mean[worst]:.2f}, "
            f"mean posterior variance {variance[worst]:.3g}): check which head is which, that it is the logarithm of a "
            "variance, and the range of the input. With a small weight on the rate they can be right."
        )


def _on_agreement(findings: Findings, rules: Sequence[Selection]) -> Iterator[str]:
    judged = [rule for rule in rules if rule.rule != GIVEN]
    if len({rule.informative for rule in judged}) < 2:
        return
    by_name = {rule.rule: rule for rule in judged}
    counts = ", ".join(f"{rule.rule} {rule.count}" for rule in judged)
    yield (
        f"The rules disagree on how many dimensions are informative: {counts}. Information says what a dimension "
        "carries, the error of decoded images without it (select-latents --decoder) what it is worth."
    )
    p, carried = by_name.get("p"), by_name.get("information")
    if p is None or carried is None:
        return
    hidden = [k for k in carried.indices if not p.informative[k]]
    empty = [k for k in p.indices if not carried.informative[k]]
    if hidden:
        scores = findings.scores
        grown = scores.mu_variance is not None and bool((scores.mu_variance[hidden] > GROWN).any())
        reason = (
            "the scale of mu has grown, which the printed objective does not price (see 'What p says' in the README)"
            if grown
            else "a dimension can carry a little at the uninformative law"
        )
        among = "" if len(hidden) == carried.count else f", {listed(hidden)} among them"
        yield (
            f"p calls {_counted(p.count)} informative, but {carried.count} carry more than {carried.threshold:g} nat"
            f"{among}: {reason}."
        )
    if empty:
        yield (
            f"p calls {listed(empty)} informative, but "
            f"{'they carry' if len(empty) > 1 else 'it carries'} less than {carried.threshold:g} nat."
        )


def _on_redundancy(intrinsic: IntrinsicDimension | None) -> Iterator[str]:
    if intrinsic is None or intrinsic.two_nn is None or intrinsic.two_nn_interval is None:
        return
    used, top = len(intrinsic.dimensions), intrinsic.two_nn_interval[1]
    if used >= top + 2 and used >= REDUNDANT * top:
        low, high = intrinsic.two_nn_interval
        yield (
            f"The {used} dimensions that carry information span a cloud of about {intrinsic.two_nn:.1f} dimensions "
            f"(TwoNN, {low:.1f} to {high:.1f}): the code is redundant. Raise sigma or beta, so that each dimension "
            "must earn its rate."
        )


def _on_the_choice(rules: Sequence[Selection], *, several: bool, redundant: bool) -> Iterator[str]:
    chosen = rules[0]
    if chosen.rule in {"p", "variance"}:
        close = [k for k, score in enumerate(chosen.score) if abs(score - chosen.threshold) < CLOSE]
        if close:
            subject = listed(close).capitalize()
            verb = "lie" if len(close) > 1 else "lies"
            yield f"{subject} {verb} within {CLOSE:g} of the threshold: the count is not settled there."
    carried = next((rule for rule in rules if rule.rule == "information"), chosen)
    full = chosen.count == carried.count == len(chosen.score) > 1
    if full and chosen.rule != GIVEN and several and not redundant:
        yield "Every dimension is informative: the data may need more; train with a larger --latent-dim."


def _on_single_images(findings: Findings) -> Iterator[str]:
    statistics = findings.statistics
    if statistics.p is not None and statistics.p.count > 1:
        unsettled = np.flatnonzero(np.sqrt(statistics.p.covariance()) > UNSETTLED_P)
        if len(unsettled):
            yield f"p differs from image to image in {listed(unsettled.tolist())}: informative for some images only."


def _on_the_sample(findings: Findings) -> Iterator[str]:
    if findings.n_images == 1:
        yield "One image has no spread: information, variances over images and intervals are not defined."
    elif findings.replicates is not None and not np.isfinite(findings.replicates["mu"][1]).all():
        yield (
            f"Some bootstrap replicates hold too few of the {findings.n_images} images: they are left out, and where "
            "they are many there is no interval."
        )
    if findings.information is None:
        return
    limited = np.flatnonzero(findings.information.limited).tolist()
    if limited:
        yield (
            f"The posteriors of {listed(limited)} are narrower than {len(findings.sample):,} rows can resolve: "
            "their information is a lower bound."
        )
