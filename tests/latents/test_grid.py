"""The grid: its error, the exactness of its multiples, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.errors import OutputError
from ngvae_tools.latents.grid import DISTORTION, Grid


def fitted(variance, values, distortion=DISTORTION):
    return Grid.fit(np.asarray(variance, float), values.min(0), values.max(0), distortion)


@given(
    st.integers(1, 200),
    st.integers(1, 5),
    st.integers(0, 2**32),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
    st.floats(1e-6, 10),
)
def test_no_error_exceeds_half_a_step(n, dim, seed, offset, spread, variance):
    values = offset + spread * np.random.default_rng(seed).standard_t(2, size=(n, dim))
    grid = fitted(np.full(dim, variance), values)
    numbers = grid.numbers(values)
    rounding = 4 * np.finfo(np.float64).eps * np.abs(values).max()
    assert (np.abs(grid.step * numbers - values) <= grid.step / 2 + rounding).all()
    # Multiples are exact in float64, so their own multiples are the same.
    np.testing.assert_array_equal(grid.numbers(grid.step * numbers), numbers)


@pytest.mark.parametrize("distortion", [DISTORTION, 0.001, 0.1])
def test_the_mean_squared_error_is_the_share_that_was_asked_for(distortion):
    variance, n = np.array([0.01, 0.09, 0.0004]), 200_000
    values = np.random.default_rng(0).normal(size=(n, 3))
    grid = fitted(variance, values, distortion)
    share = ((grid.step * grid.numbers(values) - values) ** 2).mean(axis=0) / variance
    # Uniform error e: the standard deviation of e^2 is 2 / sqrt(5) of its mean; four standard errors.
    np.testing.assert_allclose(share, distortion, rtol=4 * 2 / np.sqrt(5 * n))


def test_steps_have_a_mantissa_of_20_bits():
    variance = np.random.default_rng(0).lognormal(0, 20, 500)
    grid = Grid.fit(variance, np.zeros(500), np.ones(500))
    np.testing.assert_allclose(grid.step, np.sqrt(12 * DISTORTION * variance), rtol=2.0**-20)
    mantissa = np.ldexp(np.frexp(grid.step)[0], 20)
    np.testing.assert_array_equal(mantissa, np.rint(mantissa))


@pytest.mark.parametrize("value", [0.0, 2.5, -1e-30, 0.1, 12345.678])
def test_a_constant_dimension_is_kept_exactly_without_any_noise(value):
    values = np.full((3, 1), value, np.float32)
    grid = fitted([0.0], values)
    np.testing.assert_array_equal(grid.step * grid.numbers(values), values)


@pytest.mark.parametrize(
    ("variance", "found"), [(0.0, "a posterior variance of 0"), (np.inf, "a posterior variance of infinity")]
)
def test_a_noise_that_gives_no_step(variance, found):
    with pytest.raises(OutputError, match=rf"found {found}.*--lossless"):
        Grid.fit(np.array([0.1, variance]), np.zeros(2), np.ones(2))


@pytest.mark.parametrize("value", [1.0, -1.0, np.inf, np.nan])
def test_a_value_too_many_steps_away(value):
    grid = Grid.fit(np.array([1e-22]), np.zeros(1), np.ones(1))
    with pytest.raises(OutputError, match=r"steps from 0 to a value.*--lossless"):
        grid.numbers(np.array([[0.0], [value]]))


def test_no_dimension():
    nothing = np.empty(0)
    grid = Grid.fit(nothing, nothing, nothing)
    assert grid.numbers(np.empty((3, 0))).shape == (3, 0)
