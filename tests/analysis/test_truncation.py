"""Closed forms: with image = z W + b and orthogonal rows w_k of W, dimensions add up their squared errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.analysis.truncation import BATCH, knee_of, truncation_cost

SHAPE = (4, 5, 3)
PIXELS = 60


def orthogonal(lengths, seed=0):
    directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(PIXELS, len(lengths))))[0].T
    return (directions * np.asarray(lengths)[:, None]).astype(np.float32)


def linear(weight):
    return lambda z: (z @ weight + np.float32(0.5)).reshape(-1, *SHAPE)


def latents(n, latent_dim, seed=1):
    return np.random.default_rng(seed).normal(size=(n, latent_dim)).astype(np.float32)


def cost_of(decode, mu, images=None, **changes):
    images = decode(mu) if images is None else images
    options = {
        "mean": mu.mean(0).astype(np.float64),
        "posterior_std": np.full(mu.shape[1], 0.3),
        "information": np.arange(mu.shape[1], dtype=np.float64),
    } | changes
    return truncation_cost(images, mu, **options, decode=decode)


LENGTHS = np.array([0.5, 3.0, 0.0, 1.0, 2.0])


def test_a_linear_decoder_costs_variance_times_squared_length():
    weight, mu = orthogonal(LENGTHS), latents(100, 5)
    cost = cost_of(linear(weight), mu)
    expected = mu.astype(np.float64).var(0) * LENGTHS**2 / PIXELS
    np.testing.assert_allclose(cost.relevance, expected, rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(cost.effect, expected, rtol=1e-4, atol=1e-10)
    np.testing.assert_allclose(cost.sensitivity, LENGTHS / math.sqrt(PIXELS), rtol=1e-4, atol=1e-10)
    assert cost.relevance[2] == cost.effect[2] == cost.sensitivity[2] == 0
    assert cost.by_relevance.order == tuple(int(k) for k in np.argsort(-expected))
    assert cost.by_information.order == (4, 3, 2, 1, 0)
    for curve in (cost.by_relevance, cost.by_information):
        dropped = [expected[list(curve.order[n:])].sum() for n in range(6)]
        np.testing.assert_allclose(curve.error, dropped, rtol=1e-4, atol=1e-10)


def test_standard_errors_are_those_of_the_mean_over_images():
    weight, mu = orthogonal(LENGTHS), latents(100, 5)
    cost = cost_of(linear(weight), mu)
    off = (mu - mu.mean(0)).astype(np.float64) ** 2 * LENGTHS**2 / PIXELS
    errors = np.stack([off[:, list(cost.by_relevance.order[n:])].sum(axis=1) for n in range(6)])
    expected = errors.std(axis=1, ddof=1) / 10
    np.testing.assert_allclose(cost.by_relevance.standard_error, expected, rtol=1e-3, atol=1e-10)


def test_duplicated_dimensions_are_each_worth_a_quarter_of_what_both_are():
    w = orthogonal([2.0, 1.0])
    weight = np.stack([w[0] / 2, w[0] / 2, w[1]])
    base = latents(64, 2)
    mu = base[:, [0, 0, 1]]
    cost = cost_of(linear(weight), mu)
    both = mu[:, 0].astype(np.float64).var() * 4 / PIXELS
    np.testing.assert_allclose(cost.relevance[:2], [both / 4] * 2, rtol=1e-4)
    third = mu[:, 2].astype(np.float64).var() / PIXELS
    np.testing.assert_allclose(cost.by_relevance.error[0], both + third, rtol=1e-4)


def test_relevance_is_against_the_images_and_effect_against_the_reconstruction():
    weight, mu = orthogonal([2.0, 1.0, 0.5]), latents(80, 3)
    decode = linear(weight)
    target = mu @ weight * np.float32(0.8)
    images = (target + np.float32(0.5)).reshape(-1, *SHAPE)
    cost = cost_of(decode, mu, images, mean=np.zeros(3))
    second = (mu.astype(np.float64) ** 2).mean(0) * np.array([4, 1, 0.25]) / PIXELS
    np.testing.assert_allclose(cost.effect, second, rtol=1e-4)
    # (0.8 z)^2 without the dimension, (0.2 z)^2 with it.
    np.testing.assert_allclose(cost.relevance, (0.64 - 0.04) * second, rtol=1e-4)
    np.testing.assert_allclose(cost.by_relevance.error[-1], 0.04 * second.sum(), rtol=1e-4)


@pytest.mark.parametrize("deterministic", [False, True])
def test_sensitivity_is_a_central_difference_of_one_deviation(deterministic):
    mu = latents(70, 3) * np.float32([0.2, 1.0, 2.0])

    def decode(z):
        return np.repeat(np.sin(z), 20, axis=1).reshape(-1, *SHAPE)

    deviation = mu.astype(np.float64).std(0) if deterministic else np.array([0.1, 0.5, 1.5])
    cost = cost_of(decode, mu, posterior_std=None if deterministic else deviation)
    # (sin(z + h) - sin(z - h)) / 2h = cos(z) sin(h) / h, in a third of the values.
    slope = np.sqrt((np.cos(mu.astype(np.float64)) ** 2).mean(0) / 3) * np.sin(deviation) / deviation
    np.testing.assert_allclose(cost.sensitivity, slope, rtol=1e-4)


def test_a_deviation_that_float32_cannot_resolve_is_made_larger():
    weight, mu = orthogonal([2.0, 1.0, 0.5]), latents(40, 3)
    cost = cost_of(linear(weight), mu, posterior_std=np.array([1e-9, 0.0, 0.3]))
    np.testing.assert_allclose(cost.sensitivity, np.array([2.0, 1.0, 0.5]) / math.sqrt(PIXELS), rtol=1e-2)


def test_a_dimension_that_never_moves_is_moved_by_one():
    weight, mu = orthogonal([2.0, 1.0, 0.5]), latents(40, 3)
    mu[:, 1] = 0
    cost = cost_of(linear(weight), mu, posterior_std=None)
    assert cost.relevance[1] == cost.effect[1] == 0
    assert cost.sensitivity[1] == pytest.approx(1 / math.sqrt(PIXELS), rel=1e-4)


@pytest.mark.parametrize("information", [None, np.array([1.0, np.nan, 2.0])])
def test_without_information_there_is_no_curve_of_it(information):
    cost = cost_of(linear(orthogonal([2.0, 1.0, 0.5])), latents(40, 3), information=information)
    assert cost.by_information is None


def test_one_image_and_one_dimension():
    cost = cost_of(linear(orthogonal([2.0])), latents(1, 1), mean=np.zeros(1))
    assert cost.by_relevance.standard_error is None
    assert cost.by_relevance.knee is None
    assert len(cost.by_relevance.error) == 2


def test_equal_relevance_keeps_the_order_of_the_dimensions():
    mu = latents(40, 3)
    cost = cost_of(lambda z: np.full((len(z), *SHAPE), 0.5, np.float32), mu, information=np.zeros(3))
    assert cost.by_relevance.order == cost.by_information.order == (0, 1, 2)
    assert cost.by_relevance.knee is None


def test_every_batch_is_small_and_the_result_the_same_each_time():
    weight, mu, sizes = orthogonal(LENGTHS), latents(3 * BATCH + 5, 5), []

    def decode(z):
        assert z.dtype == np.float32
        sizes.append(len(z))
        return linear(weight)(z)

    images = linear(weight)(mu)
    costs = [cost_of(decode, mu, images) for _ in range(2)]
    assert costs[0] == costs[1]
    assert max(sizes) == BATCH
    # Twice: all, K without one, two curves that share their ends, and two steps a dimension.
    assert sum(sizes) / len(mu) / 2 < 5 * 5


def curve(*errors, noise=0.0, images=50):
    spread = np.random.default_rng(0).normal(size=(1, images)) * noise
    return np.array(errors)[:, None] + np.linspace(1, 0, len(errors))[:, None] * spread


def test_the_knee_is_where_the_curve_is_furthest_below_its_chord():
    assert knee_of(curve(10.0, 4.0, 1.0, 0.9, 0.8, 0.7)) == 2
    assert knee_of(curve(10.0, 1.0, 0.9, 0.8, 0.7)) == 1
    assert knee_of(curve(7.0, 6.0, 5.0, 4.0, 0.1, 0.05, 0.0)) == 4


@pytest.mark.parametrize(
    "errors",
    [
        (4.0, 3.0, 2.0, 1.0),  # straight
        (4.0, 3.9, 3.0, 0.0),  # above its chord
        (4.0, 1.0, 0.9),  # two dimensions
        (1.0, 1.0, 1.0, 1.0),  # flat
        (1.0, 1.0 - 1e-9, 1.0 - 1e-9, 1.0 - 1e-9),  # flat but for rounding
        (1.0, 2.0, 3.0, 4.0),  # rises
    ],
)
def test_some_curves_have_no_knee(errors):
    assert knee_of(curve(*errors)) is None


def test_a_fall_within_its_own_noise_is_no_fall():
    steep = (1.0, 0.2, 0.1, 0.0)
    assert knee_of(curve(*steep, noise=0.1)) == 1
    assert knee_of(curve(*steep, noise=10.0)) is None


@given(st.lists(st.floats(0, 3), min_size=1, max_size=6), st.integers(1, 40), st.integers(0, 99))
def test_curves_start_without_and_end_with_every_dimension(lengths, n, seed):
    weight, mu = orthogonal(np.array(lengths), seed), latents(n, len(lengths), seed)
    decode = linear(weight)
    noise = np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)
    cost = cost_of(decode, mu, decode(mu) + noise)
    alone = decode(mu.mean(0, keepdims=True))
    for one in (cost.by_information, cost.by_relevance):
        assert sorted(one.order) == list(range(len(lengths)))
        np.testing.assert_allclose(one.error[0], ((decode(mu) + noise - alone) ** 2).mean(), rtol=1e-4)
        np.testing.assert_allclose(one.error[-1], (noise.astype(np.float64) ** 2).mean(), rtol=1e-4)
        last = one.order[-1]
        np.testing.assert_allclose(one.error[-2] - one.error[-1], cost.relevance[last], rtol=1e-9, atol=1e-12)
    in_order = [cost.relevance[k] for k in cost.by_relevance.order]
    assert in_order == sorted(in_order, reverse=True)
