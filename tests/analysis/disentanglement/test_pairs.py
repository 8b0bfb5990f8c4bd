"""beta-VAE and FactorVAE: written again from their definitions, cases with values on paper, chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ngvae_tools.analysis.disentanglement import Settings
from ngvae_tools.analysis.disentanglement.pairing import Groups
from ngvae_tools.analysis.disentanglement.pairs import beta_vae, difference_points, factor_vae, vote_accuracy

SMALL = Settings(train=1500, test=1500, batch=32)


def rng(seed=0):
    return np.random.default_rng(seed)


def groups(codes):
    return [Groups.of(column) for column in codes.T]


def grid(*sizes):
    return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))


def scattered(n=1200, seed=3):
    """Factors that form no grid and depend on each other; means that mix them."""
    draw = rng(seed)
    shape = draw.integers(4, size=n)
    place = (shape + draw.integers(7, size=n) ** 2) % 11
    size = draw.integers(3, size=n)
    codes = np.stack([shape, place, size], axis=1)
    mu = codes @ draw.normal(size=(3, 6)) * 0.6 + draw.normal(size=(n, 6))
    mu[:, 5] = 3.0
    return mu, codes


def test_pairs_are_two_images_of_a_class_and_single_images_are_left_out():
    code = np.array([2, 0, 2, 1, 2, 0, 4, 3])
    one, other = Groups.of(code).pairs((4000, 2), rng())
    assert np.all(one != other)
    np.testing.assert_array_equal(code[one], code[other])
    # Every image of a class with several is drawn equally often, and every partner too.
    drawn = np.bincount(one.ravel(), minlength=8)
    assert drawn[[3, 6, 7]].sum() == 0
    assert np.all(np.abs(drawn[[0, 1, 2, 4, 5]] - 1600) < 5 * np.sqrt(1600 * 0.8))
    partners = np.bincount(other[one == 0], minlength=8)
    assert partners[[2, 4]].min() > 700
    assert partners[[2, 4]].sum() == partners.sum()


def test_a_batch_is_of_one_class_whose_share_is_its_size():
    code = np.repeat([0, 1, 2, 3], [1, 3, 6, 1])
    rows = Groups.of(code).batches(9000, 5, rng())
    assert rows.shape == (9000, 5)
    classes = code[rows]
    assert np.all(classes == classes[:, :1])
    share = np.mean(classes[:, 0] == 2)
    assert abs(share - 6 / 9) < 5 * np.sqrt(2 / 9 / 9000)


def test_the_vote_by_hand():
    train = np.array([[5, 0, 2], [1, 4, 2]])
    test = np.array([[3, 1, 2], [2, 2, 1]])
    # Dimensions 0 and 2 (a tie) vote for factor 0, dimension 1 for factor 1: 3 + 2 + 2 of 11.
    assert vote_accuracy(train, test) == 7 / 11


def naive_factor_vae(mu, codes, settings, draw):
    spread = mu.var(axis=0, ddof=1)
    alive = np.sqrt(spread) >= settings.dead

    def votes(count):
        table = np.zeros((codes.shape[1], mu.shape[1]), int)
        for _ in range(count):
            k = draw.integers(codes.shape[1])
            same = np.flatnonzero(codes[:, k] == codes[draw.integers(len(codes)), k])
            local = mu[draw.choice(same, settings.batch)].var(axis=0, ddof=1)
            ratio = np.where(alive, local / np.where(alive, spread, 1), np.inf)
            table[k, ratio.argmin()] += 1
        return table

    train, test = votes(settings.train), votes(settings.test)
    return sum(test[train[:, j].argmax(), j] for j in range(mu.shape[1])) / settings.test


def naive_beta_vae(mu, codes, settings, draw):
    def points(count):
        features, labels = [], []
        for _ in range(count):
            k = draw.integers(codes.shape[1])
            gaps = []
            for _ in range(settings.batch):
                one = draw.integers(len(mu))
                same = np.flatnonzero(codes[:, k] == codes[one, k])
                other = draw.choice(same[same != one])
                gaps.append(np.abs(mu[one] - mu[other]))
            features.append(np.mean(gaps, axis=0))
            labels.append(k)
        return np.array(features), np.array(labels)

    model = LogisticRegression().fit(*points(settings.train))
    features, labels = points(settings.test)
    return np.mean(model.predict(features) == labels)


def assert_same_share(one, other, count):
    """Two shares of as many independent points."""
    mean = (one + other) / 2
    assert abs(one - other) < 4 * np.sqrt(2 * mean * (1 - mean) / count)
    assert 0.4 < mean < 0.98  # neither chance nor certainty, else the comparison would show nothing


def test_factor_vae_is_its_definition():
    mu, codes = scattered()
    settings = Settings(train=3000, test=3000, batch=32)
    found = factor_vae(mu, groups(codes), settings, rng(1))
    assert_same_share(found, naive_factor_vae(mu, codes, settings, rng(2)), settings.test)


def test_beta_vae_is_its_definition():
    mu, codes = scattered()
    settings = Settings(train=600, test=600, batch=6)
    found = beta_vae(mu, groups(codes), settings, rng(1))
    assert_same_share(found, naive_beta_vae(mu, codes, settings, rng(2)), settings.test)


def test_the_points_have_the_mean_that_follows_from_the_classes():
    # Factor 0 shared: dimension 0 never differs. Not shared: two of {0, 1, 2} drawn apart, over 9 x 8 pairs.
    codes = grid(3, 3)
    points, labels = difference_points(codes.astype(float), groups(codes), 4000, 16, rng())
    np.testing.assert_array_equal(points[labels == 0][:, 0], 0)
    # Another image that shares factor 0 has one of the two other values of factor 1: |a - b| is 4/3 in the mean.
    gaps = points[labels == 0][:, 1]
    assert abs(gaps.mean() - 4 / 3) < 5 * np.sqrt(2 / 9 / (16 * len(gaps)))


def test_a_dimension_a_factor_is_perfect_also_when_permuted_and_scaled():
    codes = grid(4, 3, 5)
    mu = codes[:, [2, 0, 1]] * [3.0, -0.5, 1.0]
    assert factor_vae(mu, groups(codes), SMALL, rng()) == 1
    assert beta_vae(mu, groups(codes), SMALL, rng()) == 1


def test_means_that_do_not_know_the_factors_are_at_chance():
    # Every combination of factors has the same twenty means, so that a point tells nothing about its factor.
    codes = np.repeat(grid(3, 2, 2, 2), 20, axis=0)
    mu = np.tile(rng(5).normal(size=(20, 5)), (24, 1))
    for metric in (factor_vae, beta_vae):
        found = metric(mu, groups(codes), Settings(train=4000, test=4000, batch=16), rng(6))
        # 1/F, up to the test points' own error. No image pairs with itself, so that pairs have equal means in 7 of
        # 159 draws for the first factor and in 11 of 239 for the others: worth less than 0.01 in accuracy.
        assert abs(found - 1 / 4) < 4 * np.sqrt(3 / 16 / 4000) + 0.01


def test_dead_dimensions_do_not_vote():
    codes = grid(3, 4)
    mu = np.column_stack([codes * 1.0, 1e-3 * codes[:, 0]])
    assert factor_vae(mu[:, [2, 1]], groups(codes), SMALL, rng()) < 0.6
    assert factor_vae(mu[:, [2, 1]], groups(codes), Settings(1500, 1500, 32, dead=0), rng()) == 1
    assert factor_vae(mu[:, [2]], groups(codes), SMALL, rng()) is None


def test_the_spread_is_of_a_sample_where_images_abound():
    codes = grid(4, 3, 5)
    settings = Settings(train=30, test=200, batch=16)
    assert factor_vae(codes * 1.0, groups(codes), settings, rng()) == 1


@limits(max_examples=15, deadline=None)
@given(order=st.permutations(range(5)), power=st.lists(st.integers(-3, 8), min_size=5, max_size=5))
def test_factor_vae_does_not_see_order_or_scale(order, power):
    mu, codes = scattered(300)
    mu = mu[:, :5]
    settings = Settings(train=300, test=300, batch=16, dead=0)
    # Powers of two scale without rounding, so that the very same dimensions win.
    moved = mu[:, order] * 2.0 ** np.array(power)
    assert factor_vae(moved, groups(codes), settings, rng(4)) == factor_vae(mu, groups(codes), settings, rng(4))


@pytest.mark.parametrize("metric", [factor_vae, beta_vae])
def test_the_same_seed_gives_the_same_value(metric):
    mu, codes = scattered()
    settings = Settings(train=300, test=300, batch=8)
    assert len({metric(mu, groups(codes), settings, rng(1)) for _ in range(3)}) == 1
    assert len({metric(mu, groups(codes), settings, rng(seed)) for seed in range(5)}) > 1
