"""The quantiser: its error, its type, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.errors import OutputError
from ngvae_tools.latents.codec import DISTORTION, UniformQuantiser


@given(
    st.integers(1, 200),
    st.integers(1, 5),
    st.integers(0, 2**32),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
    st.floats(1e-6, 10),
)
def test_no_error_exceeds_half_a_step(n, dim, seed, offset, spread, variance):
    rng = np.random.default_rng(seed)
    values = offset + spread * rng.standard_t(2, size=(n, dim))
    quantiser = UniformQuantiser.fit(np.full(dim, variance), values.min(0), values.max(0))
    codes = quantiser.encode(values)
    assert codes.dtype == quantiser.dtype
    assert int(codes.max()) < quantiser.levels
    np.testing.assert_array_equal(codes.min(0), np.zeros(dim))
    # Rounding of the subtraction, the product and the sum in float64.
    rounding = 4 * np.finfo(np.float64).eps * np.abs(values).max()
    assert (np.abs(quantiser.decode(codes) - values) <= quantiser.step / 2 + rounding).all()


@pytest.mark.parametrize("distortion", [DISTORTION, 0.001, 0.1])
def test_the_mean_squared_error_is_the_share_that_was_asked_for(distortion):
    variance, n = np.array([0.01, 0.09, 0.0004]), 200_000
    values = np.random.default_rng(0).normal(size=(n, 3))
    quantiser = UniformQuantiser.fit(variance, values.min(0), values.max(0), distortion)
    share = ((quantiser.decode(quantiser.encode(values)) - values) ** 2).mean(axis=0) / variance
    # Uniform error e: the standard deviation of e^2 is 2 / sqrt(5) of its mean; four standard errors.
    np.testing.assert_allclose(share, distortion, rtol=4 * 2 / np.sqrt(5 * n))


@pytest.mark.parametrize(
    ("levels", "dtype"),
    [(1, "u1"), (256, "u1"), (257, "u2"), (65_536, "u2"), (65_537, "u4"), (2**32, "u4")],
)
def test_the_type_is_the_smallest_that_holds_every_code(levels, dtype):
    variance = np.full(1, 1 / (12 * DISTORTION))  # a step of 1
    quantiser = UniformQuantiser.fit(variance, np.zeros(1), np.full(1, levels - 1.0))
    np.testing.assert_allclose(quantiser.step, 1)
    quantiser = UniformQuantiser(np.ones(1), np.zeros(1), levels)
    ends = np.array([[0.0], [levels - 1.0]])
    assert quantiser.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(quantiser.decode(quantiser.encode(ends)), ends)


@pytest.mark.parametrize("span", [0.0, 255.0, 65_535.0, 2.0**32 - 2])
def test_fit_counts_the_levels_of_the_range(span):
    variance = np.full(2, 0.25**2 / (12 * DISTORTION))
    quantiser = UniformQuantiser.fit(variance, np.array([1.0, 0.0]), np.array([1.0, span * 0.25]))
    assert quantiser.levels - 1 in (int(span), int(span) + 1)  # the step is 0.25 but for rounding


def test_no_dimension_needs_one_level():
    nothing = np.empty(0)
    quantiser = UniformQuantiser.fit(nothing, nothing, nothing)
    assert (quantiser.levels, quantiser.dtype) == (1, np.uint8)
    assert quantiser.decode(quantiser.encode(np.empty((3, 0)))).shape == (3, 0)


@pytest.mark.parametrize(
    ("variance", "high", "found"),
    [
        (1e-20, 1.0, "2.89e.10 steps"),
        (0.0, 1.0, "a posterior variance of 0"),
        (1e-320, 1e300, "inf steps"),
    ],
)
def test_a_range_of_too_many_steps_is_refused(variance, high, found):
    with pytest.raises(OutputError, match=rf"found {found}"):
        UniformQuantiser.fit(np.array([0.1, variance]), np.zeros(2), np.array([1.0, high]))


def test_a_constant_dimension_is_read_back_without_any_noise():
    quantiser = UniformQuantiser.fit(np.array([0.1, 0.0]), np.array([0.0, 2.5]), np.array([1.0, 2.5]))
    values = np.array([[0.5, 2.5], [1.0, 2.5]])
    decoded = quantiser.decode(quantiser.encode(values))
    np.testing.assert_array_equal(decoded[:, 1], 2.5)
    assert (np.abs(decoded - values)[:, 0] <= quantiser.step[0] / 2).all()


def test_tiled_columns_repeat_step_and_offset():
    quantiser = UniformQuantiser.fit(np.array([0.1, 0.4]), np.array([0.0, -1.0]), np.array([1.0, 1.0])).tiled(3)
    values = np.random.default_rng(0).uniform(0, 1, (5, 6))
    assert (np.abs(quantiser.decode(quantiser.encode(values)) - values) <= quantiser.step / 2 + 1e-12).all()
    np.testing.assert_array_equal(quantiser.offset, [0.0, -1.0] * 3)
