"""The sentences that limit a verdict: each where it belongs and nowhere else."""

import numpy as np
import pytest

from ngvae_tools.analysis.selection import check_rule, given
from ngvae_tools.analysis.survey import Survey
from ngvae_tools.posteriors import (
    DeterministicPosterior,
    GaussianPosterior,
    NormalGammaMixturePosterior,
    NormalGammaPosterior,
)
from ngvae_tools.record import IntrinsicDimension
from ngvae_tools.workflows.notes import listed, notes_on
from ngvae_tools.workflows.verdict import verdict_of

GAUSSIAN, PAPER, CODES = GaussianPosterior(), NormalGammaPosterior(), DeterministicPosterior()
USED, UNUSED = (1.0, 0.0), (0.0, 0.652)
"""Standard deviation of mu, and p, of a dimension that carries much and of one that carries nothing."""


def mixture(dim, scale=0.2):
    return NormalGammaMixturePosterior(3.65, (3.65 * scale**2,) * dim)


def findings(family, mu, second, *, replicates=20, positions=1):
    collected = Survey(family, mu.shape[1], replicates=replicates, positions=positions)
    second = None if second is None else np.broadcast_to(second, mu.shape).astype(np.float32)
    collected.add(np.arange(len(mu) // positions), mu.astype(np.float32), second)
    return collected.findings()


def verdict(family, mu, second, *, rule=None, **options):
    found = findings(family, mu, second, **options)
    return verdict_of(found, found.selection(*check_rule(family, rule, None)))


def spread(deviations, images=2000, seed=0):
    return np.random.default_rng(seed).normal(size=(images, len(deviations))) * deviations


def of_kinds(*kinds, images=2000):
    """Notes of a mixture whose dimensions have the given deviations of mu, and p."""
    deviations, p = zip(*kinds, strict=True)
    return verdict(mixture(len(kinds)), spread(deviations, images), np.array(p)).notes


def said(notes, words):
    return [note for note in notes if words in note]


def cloud(used, low, value, high):
    return IntrinsicDimension(tuple(range(used)), 5000, value, (low, high), value, (low, high))


def test_a_clear_verdict_needs_no_note():
    # The mixture's unused dimension rests at p = 0.652, with the scale it then has.
    family = NormalGammaMixturePosterior(3.65, (3.65 * 0.2**2,) * 3 + (3.65 * 0.852**2,) * 2)
    notes = verdict(family, spread([1, 1, 1, 0, 0]), np.array([0.001, 0.001, 0.001, 0.652, 0.652])).notes
    assert notes == ()


def test_a_dimension_near_the_threshold_is_named():
    notes = of_kinds(USED, (0.0, 0.47), (0.0, 0.52), UNUSED)
    (note,) = said(notes, "of the threshold")
    assert note == "Dimensions 1, 2 lie within 0.05 of the threshold: the count is not settled there."
    (note,) = said(of_kinds(USED, (0.0, 0.47), UNUSED), "of the threshold")
    assert note.startswith("Dimension 1 lies within 0.05")
    assert not said(of_kinds(USED, (0.0, 0.44), UNUSED), "of the threshold")


def test_too_few_dimensions_are_suspected():
    assert said(of_kinds(USED, USED, (1.0, 0.1)), "larger --latent-dim")
    assert not said(of_kinds(USED, USED, UNUSED), "larger --latent-dim")
    assert not said(of_kinds(USED), "larger --latent-dim")


def test_a_redundant_code_is_not_told_to_grow():
    # Fifteen dimensions, each a different mixture of five numbers, all far above their noise.
    rng = np.random.default_rng(1)
    factors = rng.uniform(-1, 1, size=(4000, 5))
    mu = np.tanh(factors @ rng.normal(size=(5, 15))) * 2
    found = verdict(GAUSSIAN, mu, -8.0)
    assert found.selection.count == 15
    (note,) = said(found.notes, "redundant")
    assert note.startswith("The 15 dimensions that carry information span a cloud of about ")
    assert 4 < found.intrinsic.two_nn < 6
    assert "Raise sigma or beta" in note
    assert not said(found.notes, "larger --latent-dim")


def test_independent_dimensions_are_not_redundant():
    found = verdict(GAUSSIAN, np.random.default_rng(2).uniform(-1, 1, size=(4000, 5)) * 2, -8.0)
    assert found.intrinsic is not None
    assert not said(found.notes, "redundant")
    assert said(found.notes, "larger --latent-dim")


@pytest.mark.parametrize(
    ("used", "interval", "expected"),
    [
        (15, (4.8, 5.0, 5.3), True),
        (2, (0.9, 1.0, 1.1), False),  # a circle takes two dimensions for one
        (6, (4.0, 4.5, 5.0), False),
        (8, (4.0, 4.9, 5.2), True),
        (8, (4.0, 5.5, 6.5), False),  # the interval reaches too far
    ],
)
def test_redundancy_needs_two_dimensions_and_half_beyond_the_interval(used, interval, expected):
    family = mixture(15)
    found = findings(family, spread([1.0] * 15, 200), 0.0)
    rules = (found.selection("p"),)
    assert bool(said(notes_on(found, rules, cloud(used, *interval)), "redundant")) == expected
    assert not said(notes_on(found, rules, None), "redundant")
    unknown = IntrinsicDimension(tuple(range(15)), 40, None, None, None, None)
    assert not said(notes_on(found, rules, unknown), "redundant")


def test_grown_scales_hide_from_p_and_information_finds_them():
    # SCIENCE.md section 2: every p near 1, every dimension carries information.
    found = verdict(PAPER, spread([10.0] * 15), 1.0)
    assert found.selection.count == 0
    (note,) = said(found.notes, "p calls")
    assert note.startswith("p calls 0 dimensions informative, but 15 carry more than 0.1 nat: the scale of mu has")
    (counts,) = said(found.notes, "The rules disagree")
    assert "p 0" in counts
    assert "information 15" in counts
    assert said(found.notes, "read p with care")


def test_small_amplitudes_at_the_uninformative_law_are_told_from_grown_scales():
    notes = of_kinds(USED, (1.0, 0.652), UNUSED)
    (note,) = said(notes, "among them")
    assert note.startswith("p calls 1 dimension informative, but 2 carry more than 0.1 nat, dimension 1 among them: ")
    assert "at the uninformative law" in note
    assert "grown" not in note


def test_dimensions_that_p_calls_informative_and_that_carry_nothing():
    (note,) = said(of_kinds(USED, (0.0, 0.01), UNUSED), "less than 0.1 nat")
    assert note == "p calls dimension 1 informative, but it carries less than 0.1 nat."
    (note,) = said(of_kinds(USED, (0.0, 0.01), (0.0, 0.01), UNUSED), "less than 0.1 nat")
    assert note == "p calls dimensions 1, 2 informative, but they carry less than 0.1 nat."


def test_rules_that_agree_are_not_said_to_disagree():
    notes = verdict(GAUSSIAN, spread([1, 1, 0]), np.array([-4, -4, 0.0])).notes
    assert not said(notes, "disagree")
    # Named dimensions are no rule.
    found = findings(GAUSSIAN, spread([1, 1, 0]), np.array([-4, -4, 0.0]))
    named = verdict_of(found, given([2], 3))
    assert not said(named.notes, "disagree")
    assert not said(verdict_of(found, given([0, 1, 2], 3)).notes, "larger --latent-dim")


@pytest.mark.parametrize(("other", "expected"), [(0.1, False), (1.0, True)])
def test_a_p_that_differs_between_images_is_named(other, expected):
    p = np.tile([0.0, 0.0, 0.65], (400, 1))
    p[::4, 0] = other
    notes = verdict(mixture(3), spread([1, 1, 0], 400), p).notes
    assert (
        bool(said(notes, "p differs from image to image in dimension 0: informative for some images only")) == expected
    )


def test_families_have_their_own_notes():
    assert said(verdict(PAPER, spread([1, 0]), 0.386).notes, "drawn to p = 0.386, where its KL is 0.013 nat")
    assert not said(of_kinds(USED, UNUSED), "read p with care")
    notes = verdict(CODES, spread([1, 0]), None).notes
    assert said(notes, "The codes are deterministic")
    assert not said(notes, "disagree")
    assert not said(of_kinds(USED, UNUSED), "deterministic")


@pytest.mark.parametrize("positions", [1, 9])
def test_one_image_has_a_sentence(positions):
    notes = verdict(mixture(2), spread([1, 1], positions), 0.1, positions=positions).notes
    assert said(notes, "One image has no spread")
    assert not said(notes, "bootstrap replicates")
    assert not said(of_kinds(USED, UNUSED, images=50), "One image")


def test_too_few_images_for_intervals_have_a_sentence():
    (note,) = said(of_kinds(USED, UNUSED, images=3), "bootstrap")
    assert note.startswith("Some bootstrap replicates hold too few of the 3 images: they are left out")
    assert not said(of_kinds(USED, UNUSED, images=50), "bootstrap")
    assert not said(verdict(mixture(1), spread([1], 3), 0.1, replicates=0).notes, "bootstrap")


def test_narrow_posteriors_have_a_sentence():
    (note,) = said(verdict(GAUSSIAN, spread([1, 1], 300), np.array([-2, -14.0])).notes, "lower bound")
    assert note.startswith("The posteriors of dimension 1 are narrower than 300 rows can resolve")
    assert not said(verdict(GAUSSIAN, spread([1, 1], 3000), -2.0).notes, "lower bound")


def test_no_dimension_carries_information():
    assert said(of_kinds(UNUSED, UNUSED), "the cloud of latents has no dimension")
    assert not said(of_kinds(USED, UNUSED), "the cloud of latents has no dimension")


def test_dimensions_are_listed():
    assert listed([3]) == "dimension 3"
    assert listed([3, 5]) == "dimensions 3, 5"


@pytest.mark.parametrize(
    ("mean", "deviation", "logvar", "told"),
    [
        (0.0, 0.98, np.log(0.04), False),  # a used dimension at the optimum: variances sum to one
        (0.0, 0.05, -0.01, False),  # a collapsed one
        (-3.2, 1.0, np.log(0.04), True),  # images given in another range
        (-3.9, 0.9, 0.3, True),  # swapped heads: the log-variance is taken for mu
        (0.0, 0.98, 0.6, True),  # a standard deviation is taken for the log-variance
    ],
)
def test_latents_far_from_the_prior_are_doubted(mean, deviation, logvar, told):
    mu = spread([1.0, deviation]) + np.array([0.0, mean])
    notes = verdict(GAUSSIAN, mu, np.array([np.log(0.04), logvar])).notes
    assert [note.startswith("The latents of dimension 1 are far from") for note in said(notes, "prior N(0, 1)")] == (
        [True] if told else []
    )


def test_other_families_are_not_measured_by_that_prior():
    assert not said(verdict(PAPER, 10 + spread([10.0, 10.0]), np.array([1.0, 1.0])).notes, "prior N(0, 1)")
