import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ngvae_tools.analysis import two_sample
from ngvae_tools.analysis.energy import energy_test
from ngvae_tools.analysis.two_sample import Moments4


def moments(values):
    skewness, kurtosis = two_sample.moments4(values[:, None])
    return Moments4(len(values), values.mean(), values.var(ddof=1), skewness[0], kurtosis[0])


def inside(interval, value):
    return interval[0] <= value <= interval[1]


LAWS = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0, 1.0),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0, 1.0),
    "uniform": (lambda rng, n: rng.uniform(size=n), 0.5, 12**-0.5),
}


@pytest.mark.parametrize("law", LAWS)
def test_coverage_of_shift_and_variance_ratio(law):
    draw, mean, sd = LAWS[law]
    rng, repeats = np.random.default_rng(3), 500
    covered = np.zeros(2)
    for _ in range(repeats):
        a, b = draw(rng, 500), mean + 0.5 * sd + 1.3 * (draw(rng, 400) - mean)
        shift = two_sample.standardised_shift(moments(a), moments(b))
        ratio = two_sample.variance_ratio(moments(a), moments(b))
        covered += [inside(shift.interval, 0.5), inside(ratio.interval, 1.69)]
    # Three standard errors; few rows of an exponential law show its fourth moment, so its interval is short by 2 %.
    error = 3 * math.sqrt(0.95 * 0.05 / repeats)
    assert (np.abs(covered / repeats - 0.95) < error + (0.02 if law == "exponential" else 0)).all()


def test_distances_cover_their_true_values():
    rng, repeats = np.random.default_rng(4), 100
    covered = np.zeros(4)
    true = 2 * stats.norm.cdf(0.25) - 1
    for _ in range(repeats):
        a, b = rng.normal(size=300), rng.normal(size=300)
        same, moved = two_sample.wasserstein(a, b), two_sample.wasserstein(a, b + 0.5)
        covered += [
            inside(same.interval, 0.0),
            inside(moved.interval, 0.5),
            inside(two_sample.kolmogorov_smirnov(a, b).interval, 0.0),
            inside(two_sample.kolmogorov_smirnov(a, b + 0.5).interval, true),
        ]
    assert (covered >= 0.95 * repeats).all()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), st.lists(st.floats(-5, 5), min_size=1, max_size=9))
def test_the_distance_is_that_of_scipy(x, y):
    found = two_sample.wasserstein(np.array(x), np.array(y), replicates=2)
    assert found.value == pytest.approx(stats.wasserstein_distance(x, y), abs=1e-12)
    assert 0 <= found.interval[0] <= found.value <= found.interval[1]


def test_a_large_sample_has_the_interval_of_its_quantiles():
    x = np.random.default_rng(0).normal(size=20000)
    replicates = np.sort(x)[np.newaxis].repeat(100, axis=0)
    rng = np.random.default_rng(1)
    own = [stats.wasserstein_distance(row, row, None, rng.poisson(1.0, len(row))) for row in replicates]
    found = two_sample._own_distances(x, 2000, np.random.default_rng(2))
    error = np.std(own, ddof=1) / math.sqrt(len(own))
    assert found.mean() == pytest.approx(np.mean(own), abs=4 * error)
    assert found.std() == pytest.approx(np.std(own), rel=0.25)


def test_shift_and_its_p_value_are_those_of_scipy():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=30), rng.normal(0.4, 2.0, size=50)
    found = two_sample.standardised_shift(moments(a), moments(b))
    assert found.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-10)
    assert found.value == pytest.approx((b.mean() - a.mean()) / a.std(ddof=1), rel=1e-12)


def test_constant_dimensions_have_no_unit_but_a_p_value():
    constant = Moments4(10, 1.0, 0.0)
    assert two_sample.standardised_shift(constant, constant) == two_sample.Estimate(None, None, 1.0)
    moved = two_sample.standardised_shift(constant, Moments4(10, 2.0, 0.0))
    # One of the 184,756 ways to draw ten of twenty, and its mirror image.
    assert (moved.value, moved.p_value) == (None, pytest.approx(2 / 184756))
    assert two_sample.variance_ratio(constant, constant).p_value == 1.0
    # Of eleven rows at least ceil(10 * 4 / 10) = 4 differ from the constant, all in the ten that vary:
    # C(16, 10) / C(20, 10).
    assert two_sample.variance_ratio(constant, Moments4(10, 2.0, 1.0)).p_value == pytest.approx(8008 / 184756)
    assert two_sample.variance_ratio(constant, Moments4(10, 2.0, 1.0)).value is None


def test_a_variance_that_falls_to_zero_is_beyond_chance():
    stuck = two_sample.variance_ratio(Moments4(500, 0.0, 1.0), Moments4(500, 0.0, 0.0))
    assert (stuck.value, stuck.interval) == (0.0, None)
    assert stuck.p_value < 1e-30
    # Two values, half of the rows each: exactly 50 of 100 differ from the constant.
    coins = two_sample.variance_ratio(Moments4(100, 0.5, 0.25, 0.0, 1.0), Moments4(5, 1.0, 0.0))
    assert coins.p_value == pytest.approx(math.comb(55, 5) / math.comb(105, 5))


def test_error_of_a_log_variance_is_that_of_the_normal_law():
    assert two_sample.log_variance_error(Moments4(1001, 0.0, 4.0)) == pytest.approx(math.sqrt(2 / 1000), rel=2e-3)


@given(st.floats(1.1, 50.0), st.integers(50, 10**6))
def test_a_bootstrap_interval_gives_the_kurtosis_that_gives_it_back(kurtosis, count):
    error = two_sample.log_variance_error(Moments4(count, 0.0, 1.0, kurtosis=kurtosis))
    interval = (2.0 * math.exp(-1.959964 * error), 2.0 * math.exp(1.959964 * error))
    found = two_sample.kurtosis_of_interval(interval, count)
    assert two_sample.log_variance_error(Moments4(count, 0.0, 1.0, kurtosis=found)) == pytest.approx(error, rel=1e-6)


def test_no_interval_no_kurtosis():
    assert two_sample.kurtosis_of_interval((0.0, 0.0), 100) is None
    assert two_sample.kurtosis_of_interval((0.5, 1.0), 1) is None


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_against_its_definition(p_values):
    corrected = two_sample.holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected, left = set(), list(range(len(p_values)))
        while left:
            least = min(left, key=lambda i: p_values[i])
            if p_values[least] * len(left) > level:
                break
            rejected.add(least)
            left.remove(least)
        assert {i for i, p in enumerate(corrected) if p <= level} == rejected


def test_share_outside_by_simulation():
    rng, repeats = np.random.default_rng(6), 4000
    a, b = rng.normal(size=(repeats, 20)), rng.normal(size=(repeats, 10))
    outside = ((b < a.min(axis=1, keepdims=True)) | (b > a.max(axis=1, keepdims=True))).sum(axis=1)
    for number in (1, 3, 6):
        expected = two_sample.share_outside(number, 20, 10).p_value
        error = math.sqrt(expected * (1 - expected) / repeats)
        assert (outside >= number).mean() == pytest.approx(expected, abs=4 * error)
    assert two_sample.share_outside(0, 20, 10).p_value == pytest.approx(1.0)
    assert two_sample.share_outside(3, 1, 10).p_value is None


def test_exact_binomial_interval():
    low, high = two_sample.share_outside(12, 1000, 400).interval
    assert stats.binom.sf(11, 400, low) == pytest.approx(0.025, rel=1e-6)
    assert stats.binom.cdf(12, 400, high) == pytest.approx(0.025, rel=1e-6)
    assert two_sample.share_outside(0, 10, 1).interval == (0.0, pytest.approx(0.975))


def test_histograms_of_p():
    a, b = np.zeros(20, np.int64), np.zeros(20, np.int64)
    a[0], b[19] = 100, 50
    assert two_sample.histogram_distance(a, b) == pytest.approx(0.95)
    assert two_sample.kolmogorov_smirnov_of_counts(a, b) < 1e-20
    assert two_sample.kolmogorov_smirnov_of_counts(a, 3 * a) == 1.0


def test_equal_samples_that_scipy_has_no_exact_value_for():
    x = np.arange(200) / 200
    found = two_sample.kolmogorov_smirnov(x, x + 0.001)
    assert found.value == pytest.approx(0.005)
    assert found.p_value == pytest.approx(1.0)


def test_equal_spread_where_nothing_varies():
    assert two_sample.equal_spread(np.ones(5), np.ones(4)) is None
    assert two_sample.equal_spread(np.ones(1), np.arange(4.0)) is None


def test_two_rows_say_nothing_of_their_spread():
    # Both are equally far from their median, so the statistic would divide by zero.
    assert two_sample.equal_spread(np.array([0.0, 1.0]), np.array([0.0, 9.0])) is None
    assert two_sample.equal_spread(np.array([0.1, 0.7]), np.array([0.1, 0.7])) is None
    assert two_sample.equal_spread(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([-3.0, 3.0, 3.0, -3.0])) is None
    assert 0 < two_sample.equal_spread(np.array([0.0, 1.0, 5.0]), np.array([0.0, 9.0, 2.0])) <= 1


class TestEnergy:
    def test_level_is_exact(self):
        rng, repeats = np.random.default_rng(7), 300
        found = [
            energy_test(rng.exponential(size=(40, 3)), rng.exponential(size=(25, 3)), 99).p_value <= 0.05
            for _ in range(repeats)
        ]
        assert abs(np.mean(found) - 0.05) < 3 * math.sqrt(0.05 * 0.95 / repeats)

    def test_a_change_of_dependence_alone_is_found(self):
        rng, found = np.random.default_rng(8), 0
        for _ in range(5):
            x, y = rng.normal(size=(1000, 7)), rng.normal(size=(1000, 7))
            y[:, 1] = 0.5 * y[:, 0] + math.sqrt(0.75) * y[:, 1]
            found += energy_test(x, y, 99).p_value <= 0.01
        assert found == 5

    def test_the_statistic_against_its_definition(self):
        rng = np.random.default_rng(9)
        x, y = rng.normal(size=(12, 2)), rng.normal(1.0, 1.0, size=(9, 2))
        pooled = np.concatenate([x, y])
        scores = stats.norm.ppf((stats.rankdata(pooled, axis=0) - 0.5) / 21)
        features = np.column_stack([scores, scores[:, 0] * scores[:, 1]])

        def mean(one, other):
            return np.mean([[np.linalg.norm(a - b) for b in other] for a in one])

        one, other = features[:12], features[12:]
        between = mean(one, other)
        expected = (2 * between - mean(one, one) - mean(other, other)) / (2 * between)
        assert energy_test(x, y, 9).coefficient == pytest.approx(expected, rel=1e-6)

    def test_equal_and_degenerate_samples(self):
        x = np.random.default_rng(0).normal(size=(50, 3))
        assert energy_test(x, x, 99).p_value == 1.0
        assert energy_test(x, x, 99).coefficient == 0.0
        assert energy_test(np.ones((5, 2)), np.ones((6, 2))) is None
        assert energy_test(x, x[:0]) is None
        assert energy_test(x, x[:1], 99).p_value > 0.05

    def test_the_seed_decides(self):
        rng = np.random.default_rng(1)
        x, y = rng.normal(size=(60, 2)), rng.normal(0.2, 1, size=(60, 2))
        assert energy_test(x, y, 199, seed=3) == energy_test(x, y, 199, seed=3)
        assert len({energy_test(x, y, 199, seed=seed).p_value for seed in range(4)}) > 1
