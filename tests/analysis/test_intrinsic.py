import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ngvae_tools.analysis.intrinsic import FEWEST_POINTS, MOST_POINTS, intrinsic_dimension

COLUMNS = tuple(range(15))


def cloud(law, dim, points, seed, *, curved):
    """A cloud of `dim` dimensions in fifteen columns, flat or as the graph of smooth functions."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(points, dim)) if law == "gaussian" else rng.uniform(-1, 1, size=(points, dim))
    if curved:
        z = np.concatenate([z, 0.3 * z**2, np.sin(z)], axis=1)
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(15, 15)))[0]
    return z @ turn[: z.shape[1]]


def test_estimates_are_those_of_the_definitions():
    points = np.random.default_rng(0).normal(size=(200, 3))
    found, notes = intrinsic_dimension(points, (1, 4, 6))
    assert notes == ()
    assert (found.dimensions, found.n_points) == ((1, 4, 6), 200)
    distances = np.sort(cdist(points, points), axis=1)[:, 1:]
    ratios = sorted(math.log(row[1] / row[0]) for row in distances)
    censored = 180 / (sum(ratios[:180]) + 20 * ratios[179])
    assert found.two_nn == pytest.approx(censored, rel=1e-12)
    by_neighbours = []
    for k in range(10, 21):
        inverse = [sum(math.log(row[k - 1] / row[j]) for j in range(k - 1)) / (k - 1) for row in distances]
        by_neighbours.append(1 / (sum(inverse) / 200))
    assert found.maximum_likelihood == pytest.approx(sum(by_neighbours) / 11, rel=1e-12)


@pytest.mark.parametrize("law", ["gaussian", "uniform"])
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(law, dim, curved):
    trials = 40
    found = [intrinsic_dimension(cloud(law, dim, 400, s, curved=curved), COLUMNS)[0] for s in range(trials)]
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)
    for name in ("two_nn_interval", "maximum_likelihood_interval"):
        intervals = [getattr(each, name) for each in found]
        assert np.mean([low <= dim <= high for low, high in intervals]) >= least
        # An interval that says nothing covers everything.
        assert np.mean([high - low for low, high in intervals]) < 0.5 * dim


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_full_sample_is_near_the_truth(dim):
    found, _ = intrinsic_dimension(cloud("gaussian", dim, MOST_POINTS, 3, curved=True), COLUMNS)
    assert found.n_points == MOST_POINTS
    assert found.two_nn == pytest.approx(dim, rel=0.06)
    assert found.maximum_likelihood == pytest.approx(dim, rel=0.06)


def test_fifteen_dimensions_that_carry_five_are_told_apart_from_fifteen():
    redundant, _ = intrinsic_dimension(cloud("gaussian", 5, 2000, 0, curved=False), COLUMNS)
    full, _ = intrinsic_dimension(np.random.default_rng(0).normal(size=(2000, 15)), COLUMNS)
    assert redundant.two_nn_interval[1] < 7
    assert full.two_nn_interval[0] > 10
    assert full.two_nn_interval[1] <= max(15, full.two_nn)


def test_noise_in_all_columns_is_seen_at_its_own_scale():
    rng = np.random.default_rng(1)
    line = np.outer(rng.uniform(size=1000), np.ones(4)) * 100
    assert intrinsic_dimension(line, (0, 1, 2, 3))[0].two_nn == pytest.approx(1, abs=0.15)
    noisy = line + rng.normal(scale=3, size=line.shape)
    assert intrinsic_dimension(noisy, (0, 1, 2, 3))[0].two_nn > 2


def test_large_clouds_are_sampled_by_the_seed():
    points = np.random.default_rng(2).normal(size=(3 * MOST_POINTS, 3))
    one, again, other = (intrinsic_dimension(points, (0, 1, 2), seed=seed)[0] for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert one.n_points == MOST_POINTS


def test_points_that_repeat_are_left_out_and_told():
    points = np.random.default_rng(3).normal(size=(300, 2))
    found, notes = intrinsic_dimension(np.repeat(points, 3, axis=0), (0, 1))
    assert found == intrinsic_dimension(points, (0, 1))[0]
    assert notes == ("600 of 900 points sampled for the intrinsic dimension repeat others and were left out.",)


def test_what_cannot_be_estimated_is_said():
    rng = np.random.default_rng(4)
    assert intrinsic_dimension(np.empty((100, 0)), ()) == (
        None,
        ("The intrinsic dimension is not estimated: no dimension carries information.",),
    )
    for points in (np.empty((0, 2)), np.zeros((500, 2)), rng.normal(size=(FEWEST_POINTS - 1, 2))):
        found, notes = intrinsic_dimension(points, (0, 1))
        assert found is None
        assert f"at least {FEWEST_POINTS} distinct points" in notes[-1]
    found, notes = intrinsic_dimension(np.stack(np.meshgrid(*[np.arange(20.0)] * 2), -1).reshape(-1, 2), (0, 1))
    assert found is None
    assert "equal distances" in notes[-1]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(FEWEST_POINTS, 300),
    st.integers(1, 6),
    st.integers(-300, 300),
    st.integers(1, 40),
)
def test_whatever_the_points_numbers_are_finite_and_intervals_hold_the_estimate(seed, points, columns, power, values):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, values, size=(points, columns)) * 10.0**power
    fine = rng.normal(size=(points, columns)) * 10.0**power
    for cloud_ in (coarse, fine, np.where(rng.random((points, 1)) < 0.5, coarse, fine)):
        found, notes = intrinsic_dimension(cloud_, tuple(range(columns)))
        if found is None:
            assert notes
            continue
        for estimate, (low, high) in (
            (found.two_nn, found.two_nn_interval),
            (found.maximum_likelihood, found.maximum_likelihood_interval),
        ):
            assert 0 <= low <= estimate <= high
            assert math.isfinite(high)
