"""Which dimensions the rules keep, and which rules and thresholds are refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.analysis.selection import (
    RULES,
    Scores,
    check_rule,
    default_rule,
    default_threshold,
    latent_types,
    select,
    signal_to_noise,
)
from ngvae_tools.analysis.selection import given as named
from ngvae_tools.errors import OptionError
from ngvae_tools.laws import INFORMATIVE, UNINFORMATIVE
from ngvae_tools.posteriors import (
    DeterministicPosterior,
    GaussianPosterior,
    NormalGammaMixturePosterior,
    NormalGammaPosterior,
)

GAUSSIAN, PAPER, CODES = GaussianPosterior(), NormalGammaPosterior(), DeterministicPosterior()
MIXTURE = NormalGammaMixturePosterior(3.65, (0.24,) * 3)


def scores(**columns):
    columns = {name: np.asarray(values, dtype=float) for name, values in columns.items()}
    return Scores(**{"mu_variance": None} | columns)


def test_p_near_zero_is_informative_and_p_near_one_is_not():
    selection = select(scores(p=[0.1, 0.9]), PAPER, "p", 0.5)
    assert selection.informative == (True, False)
    assert (selection.indices, selection.count, selection.score) == ((0,), 1, (0.1, 0.9))
    assert (selection.rule, selection.threshold, selection.keeps) == ("p", 0.5, "below")
    assert selection.count_interval is None


@pytest.mark.parametrize(
    ("rule", "column", "values", "threshold", "informative"),
    [
        ("p", "p", [0.0, 0.49, 0.5, 0.65], 0.5, [True, True, False, False]),
        ("variance", "variance", [0.0906, 0.499, 0.5, 0.9], 0.5, [True, True, False, False]),
        ("active", "mu_variance", [1.0, 0.01, 0.0099, 0.0], 0.01, [True, True, False, False]),
        ("information", "information", [1.2, 0.1, 0.0999, 0.0], 0.1, [True, True, False, False]),
    ],
)
def test_plain_scores_and_their_default_thresholds(rule, column, values, threshold, informative):
    assert default_threshold(GAUSSIAN if rule != "p" else MIXTURE, rule) == threshold
    selection = select(scores(**{column: values}), GAUSSIAN, rule, threshold)
    assert selection.score == tuple(values)
    assert list(selection.informative) == informative


def test_the_rate_counts_above_the_familys_floor():
    # SCIENCE.md section 1: 3.56 nats at the uninformative law, 31.38 at the informative one.
    at_the_laws = PAPER.posterior(np.zeros((1, 3)), np.array([[0.0, 1.0, PAPER.rest_p]])).rate[0]
    np.testing.assert_allclose(at_the_laws, [31.38, 3.56, 0.013], atol=0.005)
    selection = select(scores(rate=at_the_laws), PAPER, "rate", 0.1)
    assert selection.informative == (True, False, False)
    np.testing.assert_allclose(selection.score, [27.8, 0, -3.55], atol=0.03)
    grown = PAPER.posterior(np.array([[10.0]]), np.array([[1.0]])).rate[0]
    assert select(scores(rate=grown), PAPER, "rate", 0.1).informative == (True,)
    assert select(scores(rate=[0.0, 0.099, 0.1, 2.0]), GAUSSIAN, "rate", 0.1).informative == (False, False, True, True)


@pytest.mark.parametrize("scale", [0.256, 0.852])
def test_the_rate_of_a_collapsed_dimension_is_the_floor_of_the_mixture(scale):
    family = NormalGammaMixturePosterior(3.65, (3.65 * scale**2,) * 2)
    a_i, a_u = family._informative_kl[0], 0.003
    odds = math.exp(a_u - a_i) * family.prior_weight / (1 - family.prior_weight)
    rest = 1 / (1 + odds)
    rate = family.posterior(np.array([[0.0, 2.0]]), np.array([[rest, rest]])).rate[0]
    selection = select(scores(rate=rate), family, "rate", 0.1)
    assert selection.informative == (False, True)
    np.testing.assert_allclose(selection.score, [0, 2], atol=1e-4)
    # The informative law costs A_i + log 1 / pi: above the floor whatever mu is.
    costly = family.posterior(np.zeros((1, 2)), np.zeros((1, 2))).rate[0]
    assert select(scores(rate=costly), family, "rate", 0.1).count == 2


def test_types_of_bonheme_and_grzes():
    variance = np.array([1.0, 0.9, 1.1, 0.89, 1.11, 0.1, 0.05, 0.5, 1.0, 0.05])
    deviation = np.sqrt([0.0, 0.099, 0.0, 0.0, 0.0, 0.0, 0.099, 0.0, 0.11, 0.11])
    types = latent_types(scores(variance=variance, variance_std=deviation), GAUSSIAN)
    assert types.tolist() == [0, 0, 0, 1, 1, 2, 2, 1, 1, 1]
    selection = select(scores(variance=variance, variance_std=deviation), GAUSSIAN, "type", 0.5)
    assert selection.informative == tuple(types > 0)
    assert select(scores(variance=variance, variance_std=deviation), GAUSSIAN, "type", 1.5).indices == (5, 6)


def test_the_laws_of_the_paper_have_their_types_by_the_tolerance():
    variance = [INFORMATIVE.variance, UNINFORMATIVE.variance, 0.524]
    still = scores(variance=variance, variance_std=[0.0] * 3)
    assert latent_types(still, PAPER).tolist() == latent_types(still, MIXTURE).tolist() == [2, 0, 1]
    limits = scores(variance=[0.149, 0.151, 0.849, 0.851, 1.149, 1.151], variance_std=[0.0] * 6)
    assert latent_types(limits, MIXTURE).tolist() == [2, 1, 1, 0, 0, 1]
    # An unused dimension with a learned scale, SCIENCE.md section 3.
    family = NormalGammaMixturePosterior(3.65, (3.65 * 0.852**2,))
    rest = family.posterior(np.zeros((1, 1)), np.full((1, 1), 0.652))
    assert latent_types(scores(variance=rest.variance[0], variance_std=[0.01]), family).tolist() == [0]


def test_replicates_without_a_spread_have_no_type():
    types = latent_types(scores(variance=[[0.05, 1.0]], variance_std=[[np.nan, 0.0]]), GAUSSIAN)
    np.testing.assert_array_equal(types, [[np.nan, 0]])


def test_signal_to_noise():
    ratio = signal_to_noise(scores(mu_variance=[1.0, 0.0, 0.0, 2.0, np.nan], variance=[0.5, 0.5, 0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(ratio, [2, 0, 0, np.finfo(float).max, np.nan])
    selection = select(scores(mu_variance=[1.0, 0.9, 3.0], variance=[1.0, 1.0, 0.0]), GAUSSIAN, "snr", 1.0)
    assert selection.informative == (True, False, True)
    assert all(map(math.isfinite, selection.score))
    assert signal_to_noise(scores(variance=[1.0])) is None
    assert signal_to_noise(scores(mu_variance=[1.0])) is None


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_without_its_score_says_nothing(rule):
    assert select(scores(), GAUSSIAN, rule, 0.5) is None


def test_deterministic_codes_have_one_rule():
    assert default_rule(CODES) == "active"
    assert check_rule(CODES, None, None) == ("active", 0.01)
    assert select(scores(mu_variance=[1.0, 0.0]), CODES, "active", 0.01).indices == (0,)
    assert select(scores(mu_variance=[1.0], rate=[2.0]), CODES, "rate", 0.1) is None
    for rule in set(RULES) - {"active"}:
        with pytest.raises(
            OptionError, match=rf"rule {rule} does not apply.*expected one of active, found the head mu"
        ):
            check_rule(CODES, rule, None)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.01, 0.99))
def test_a_score_at_a_lower_threshold_is_not_informative_and_at_an_upper_one_is(values, threshold):
    below = select(scores(p=values), PAPER, "p", threshold)
    assert below.informative == tuple(value < threshold for value in values)
    above = select(scores(information=values), PAPER, "information", threshold)
    assert above.informative == tuple(value >= threshold for value in values)
    assert (below.keeps, above.keeps) == ("below", "above")


@pytest.mark.parametrize(("family", "rule"), [(GAUSSIAN, "variance"), (PAPER, "p"), (MIXTURE, "p"), (CODES, "active")])
def test_defaults_are_those_of_the_family(family, rule):
    assert default_rule(family) == rule
    assert check_rule(family, None, None) == (rule, default_threshold(family, rule))
    assert check_rule(family, "active", 0.3) == ("active", 0.3)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_source_and_applies_to_the_paper(rule):
    assert RULES[rule].source
    assert check_rule(PAPER, rule, None) == (rule, default_threshold(PAPER, rule))


def test_unknown_rules_are_refused():
    with pytest.raises(OptionError, match="expected p, variance, active, rate, information, type, snr, found 'kl'"):
        check_rule(MIXTURE, "kl", None)


def test_p_is_refused_for_an_encoder_without_it():
    with pytest.raises(OptionError, match=r"rule p does not apply.*found heads mu and logvar; use --rule variance"):
        check_rule(GAUSSIAN, "p", None)


@pytest.mark.parametrize("threshold", [0.0, -0.1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("family", "rule"), [(MIXTURE, rule) for rule in RULES] + [(PAPER, "p"), (CODES, "active")])
def test_thresholds_that_separate_nothing_are_refused(family, rule, threshold):
    with pytest.raises(OptionError, match=f"of rule {rule} separates nothing"):
        check_rule(family, rule, threshold)


def test_a_threshold_of_p_lies_below_the_rest_point():
    rest = MIXTURE.rest_p
    assert rest == pytest.approx(0.652, abs=5e-4)
    assert check_rule(MIXTURE, "p", math.nextafter(rest, 0))[1] < rest
    for threshold in (rest, 0.7, 1.0):
        with pytest.raises(OptionError, match=r"between 0 and 0\.652"):
            check_rule(MIXTURE, "p", threshold)
    assert check_rule(PAPER, "p", 0.38) == ("p", 0.38)
    with pytest.raises(OptionError, match=r"between 0 and 0\.386"):
        check_rule(PAPER, "p", 0.5)
    assert check_rule(MIXTURE, "variance", 0.9) == ("variance", 0.9)


def test_a_threshold_of_types_lies_between_them():
    assert check_rule(MIXTURE, "type", 1.5) == ("type", 1.5)
    with pytest.raises(OptionError, match="expected a number between 0 and 2, found 2"):
        check_rule(MIXTURE, "type", 2.0)


def test_default_thresholds_lie_between_zero_and_the_rest_point():
    assert default_threshold(MIXTURE, "p") == 0.5
    assert default_threshold(GAUSSIAN, "variance") == default_threshold(PAPER, "variance") == 0.5
    assert default_threshold(PAPER, "p") == pytest.approx(0.386 / 2, abs=1e-3)
    rare = NormalGammaMixturePosterior(3.65, (0.24,) * 3, prior_weight=math.exp(-0.3))
    assert rare.rest_p < 0.5
    assert default_threshold(rare, "p") == rare.rest_p / 2


def test_a_collapsed_paper_model_is_not_called_informative():
    # Under Eq. 10 every unused dimension is drawn to the interior minimum, which lies below 0.5.
    collapsed = scores(p=[PAPER.rest_p] * 3)
    assert select(collapsed, PAPER, *check_rule(PAPER, None, None)).count == 0


def test_named_dimensions():
    selection = named([2, 0], 4)
    assert (selection.rule, selection.keeps, selection.indices) == ("given", "above", (0, 2))
    assert selection.score == (1, 0, 1, 0)
    assert named([], 2).count == 0
    for wrong in ([4], [-1], [1, 1]):
        with pytest.raises(OptionError, match=r"expected different numbers from 0 to 3.*correct --dimensions"):
            named(wrong, 4)
