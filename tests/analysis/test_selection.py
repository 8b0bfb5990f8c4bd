"""Which dimensions the rules keep, and which rules and thresholds are refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.analysis.selection import check_rule, default_rule, default_threshold, select
from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.errors import OptionError
from ngvae_tools.posteriors import GaussianPosterior, NormalGammaMixturePosterior, NormalGammaPosterior, Posterior

GAUSSIAN, PAPER = GaussianPosterior(), NormalGammaPosterior()
MIXTURE = NormalGammaMixturePosterior(3.65, (0.24,) * 3)


def statistics(variance, p=None):
    variance = np.atleast_2d(variance).astype(float)
    posterior = Posterior(np.zeros_like(variance), variance, np.zeros_like(variance))
    return LatentStatistics.of(posterior, None if p is None else np.atleast_2d(p).astype(float))


def test_p_near_zero_is_informative_and_p_near_one_is_not():
    selection = select(statistics([0.9, 0.1], p=[0.1, 0.9]), "p", 0.5)
    assert selection.informative == (True, False)
    assert (selection.indices, selection.count, selection.score) == ((0,), 1, (0.1, 0.9))


def test_the_mean_over_images_decides():
    p = [[0.0, 0.0, 1.0], [0.1, 0.9, 0.9], [0.2, 1.0, 0.95]]
    selection = select(statistics(np.ones((3, 3)), p=p), "p", 0.5)
    assert selection.informative == (True, False, False)
    np.testing.assert_allclose(selection.score, [0.1, 1.9 / 3, 0.95])


def test_a_small_posterior_variance_is_informative():
    selection = select(statistics([0.0906, 0.9, 0.5, 0.499], p=[1, 0, 0, 1]), "variance", 0.5)
    assert selection.informative == (True, False, False, True)
    assert (selection.rule, selection.threshold) == ("variance", 0.5)


def test_the_laws_of_the_paper_lie_on_the_two_sides():
    p = np.array([[0.0, 1.0]])
    posterior = PAPER.posterior(np.zeros((1, 2)), p)
    seen = LatentStatistics.of(posterior, p)
    for rule in ("p", "variance"):
        assert select(seen, rule, default_threshold(PAPER, rule)).informative == (True, False)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.01, 0.99))
def test_a_score_at_the_threshold_is_not_informative(p, threshold):
    selection = select(statistics(np.ones(len(p)), p=p), "p", threshold)
    assert selection.informative == tuple(value < threshold for value in p)
    assert selection.indices == tuple(k for k, value in enumerate(p) if value < threshold)


@pytest.mark.parametrize(("family", "rule"), [(GAUSSIAN, "variance"), (PAPER, "p"), (MIXTURE, "p")])
def test_defaults_are_those_of_the_family(family, rule):
    assert default_rule(family) == rule
    assert check_rule(family, None, None) == (rule, default_threshold(family, rule))
    assert check_rule(family, "variance", 0.3) == ("variance", 0.3)


def test_unknown_rules_are_refused():
    with pytest.raises(OptionError, match="expected p or variance, found 'kl'"):
        check_rule(MIXTURE, "kl", None)


def test_p_is_refused_for_an_encoder_without_it():
    with pytest.raises(OptionError, match=r"rule p does not apply.*use --rule variance"):
        check_rule(GAUSSIAN, "p", None)


@pytest.mark.parametrize("threshold", [0.0, -0.1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("family", "rule"), [(GAUSSIAN, "variance"), (PAPER, "p"), (MIXTURE, "p"), (MIXTURE, "variance")]
)
def test_thresholds_that_separate_nothing_are_refused(family, rule, threshold):
    with pytest.raises(OptionError, match="separates nothing"):
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


def test_default_thresholds_lie_between_zero_and_the_rest_point():
    assert default_threshold(MIXTURE, "p") == 0.5
    assert default_threshold(GAUSSIAN, "variance") == default_threshold(PAPER, "variance") == 0.5
    assert default_threshold(PAPER, "p") == pytest.approx(0.386 / 2, abs=1e-3)
    rare = NormalGammaMixturePosterior(3.65, (0.24,) * 3, prior_weight=math.exp(-0.3))
    assert rare.rest_p < 0.5
    assert default_threshold(rare, "p") == rare.rest_p / 2


def test_a_collapsed_paper_model_is_not_called_informative():
    # Under Eq. 10 every unused dimension is drawn to the interior minimum, which lies below 0.5.
    rest = PAPER.rest_p
    collapsed = statistics(np.full((2, 3), 0.5), p=np.full((2, 3), rest))
    rule, threshold = check_rule(PAPER, None, None)
    assert select(collapsed, rule, threshold).count == 0
