"""Metrics of covariances whose values are known, and of degenerate ones."""

import json
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from ngvae_tools.analysis import covariance as module
from ngvae_tools.analysis.covariance import (
    covariance_metrics,
    decorrelation,
    decorrelation_correlation,
    decorrelation_signed,
    effective_dimensions,
    entropy,
    participation_ratio,
    total_correlation,
)
from ngvae_tools.errors import UndefinedMetricError

METRICS = (
    entropy,
    decorrelation,
    decorrelation_signed,
    decorrelation_correlation,
    total_correlation,
    effective_dimensions,
    participation_ratio,
)
RATIOS = {"decorrelation", "decorrelation_signed", "decorrelation_correlation"}
RHO = st.floats(-0.999, 0.999).filter(lambda rho: abs(rho) > 1e-3)


@st.composite
def covariances(draw):
    dim = draw(st.integers(2, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    root = rng.normal(size=(dim, dim)) + 2 * np.eye(dim)
    matrix = root @ root.T
    assume(np.linalg.cond(matrix) < 1e4)
    return matrix


@pytest.mark.parametrize("dim", [1, 2, 7, 15, 64])
def test_the_identity_has_the_entropy_of_a_uniform_law(dim):
    assert entropy(np.eye(dim)) == pytest.approx(math.log(dim), abs=1e-14)
    assert entropy(1e-9 * np.eye(dim)) == pytest.approx(math.log(dim), abs=1e-14)


def test_one_varying_dimension_has_no_entropy():
    value = entropy(np.diag([0.0, 3.0, 0.0]))
    assert value == 0
    assert math.copysign(1, value) == 1
    assert math.copysign(1, total_correlation(np.eye(1))) == 1


@given(covariances())
def test_entropy_agrees_with_scipy(matrix):
    assert entropy(matrix) == pytest.approx(scipy.stats.entropy(np.diag(matrix)), abs=1e-13)


@given(RHO, st.floats(0.01, 100), st.floats(0.01, 100))
def test_two_correlated_dimensions(rho, first, second):
    scale = np.diag([first, second])
    matrix = scale @ np.array([[1, rho], [rho, 1]]) @ scale
    assert total_correlation(matrix) == pytest.approx(-0.5 * math.log1p(-(rho**2)), rel=1e-9, abs=1e-14)
    ratio = (first / second + second / first) / 2
    assert decorrelation(matrix) == pytest.approx(ratio / abs(rho))
    assert decorrelation_signed(matrix) == pytest.approx(ratio / rho)
    assert decorrelation_correlation(matrix) == pytest.approx(1 / abs(rho))


def test_three_dimensions_by_hand():
    matrix = np.array([[4.0, 1.0, -2.0], [1.0, 3.0, 0.5], [-2.0, 0.5, 5.0]])
    assert decorrelation(matrix) == pytest.approx(12 / 7)
    assert decorrelation_signed(matrix) == pytest.approx(12 / -1)
    # det by cofactors: 4 (15 - 0.25) - 1 (5 + 1) - 2 (0.5 + 6)
    assert total_correlation(matrix) == pytest.approx(0.5 * math.log(60 / 40))
    assert participation_ratio(matrix) == pytest.approx(12**2 / (16 + 9 + 25 + 2 * (1 + 4 + 0.25)))
    terms = 1 / math.sqrt(12) + 2 / math.sqrt(20) + 0.5 / math.sqrt(15)
    assert decorrelation_correlation(matrix) == pytest.approx(3 / (2 * terms))
    shares = [4 / 12, 3 / 12, 5 / 12]
    assert effective_dimensions(matrix) == pytest.approx(math.prod(s**-s for s in shares))


@pytest.mark.parametrize("dim", [1, 2, 15])
def test_equal_dimensions_count_each_and_a_line_counts_one(dim):
    assert effective_dimensions(3 * np.eye(dim)) == pytest.approx(dim)
    assert participation_ratio(3 * np.eye(dim)) == pytest.approx(dim)
    line = np.outer(np.arange(1, dim + 1), np.arange(1, dim + 1)).astype(float)
    assert participation_ratio(line) == pytest.approx(1)


@given(covariances())
def test_participation_ratio_is_that_of_the_eigenvalues(matrix):
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert participation_ratio(matrix) == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


@given(covariances(), st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_the_ratio_of_correlations_does_not_depend_on_scales(matrix, logs):
    scale = np.diag(np.exp(logs[: len(matrix)]))
    there, here = (decorrelation_correlation(m) for m in (scale @ matrix @ scale, matrix))
    assert there == pytest.approx(here, rel=1e-8)


@given(covariances())
def test_total_correlation_agrees_with_entropies_of_scipy(matrix):
    joint = scipy.stats.multivariate_normal(cov=matrix).entropy()
    marginal = sum(scipy.stats.norm(scale=math.sqrt(v)).entropy() for v in np.diag(matrix))
    assert total_correlation(matrix) == pytest.approx(marginal - joint, abs=1e-9)


def test_total_correlation_of_a_sample():
    rho, n = 0.6, 200_000
    rows = np.random.default_rng(0).multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=n)
    # Delta method: the standard error of the estimate is rho / sqrt(n).
    error = abs(total_correlation(np.cov(rows, rowvar=False)) + 0.5 * math.log(1 - rho**2))
    assert error < 4 * rho / math.sqrt(n)


@given(covariances(), st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_total_correlation_does_not_depend_on_scales(matrix, logs):
    scale = np.diag(np.exp(logs[: len(matrix)]))
    assert total_correlation(scale @ matrix @ scale) == pytest.approx(total_correlation(matrix), abs=1e-9)


@given(covariances(), st.data())
def test_the_order_of_dimensions_changes_nothing(matrix, data):
    order = data.draw(st.permutations(range(len(matrix))))
    for metric in set(METRICS) - {decorrelation_signed}:
        assert metric(matrix[np.ix_(order, order)]) == pytest.approx(metric(matrix), rel=1e-9, abs=1e-12)
    # The signed terms may nearly cancel: compare their sum.
    trace = np.trace(matrix)
    there, here = (trace / decorrelation_signed(m) for m in (matrix[np.ix_(order, order)], matrix))
    assert there == pytest.approx(here, abs=1e-12 * np.abs(matrix).sum())


@given(covariances())
def test_a_constant_dimension_changes_no_metric(matrix):
    wider = np.zeros((len(matrix) + 1, len(matrix) + 1))
    wider[1:, 1:] = matrix
    for metric in METRICS:
        assert metric(wider) == pytest.approx(metric(matrix), rel=1e-12)


NOISE = (1e-7) ** 2  # variance of a constant near 1 that wobbles by a rounding of float32
DUPLICATE = np.array([[2.0, 2.0, 0.1], [2.0, 2.0, 0.1], [0.1, 0.1, 1.0]])
DEGENERATE = {
    "one dimension": (np.array([[2.0]]), RATIOS),
    "one constant dimension": (np.zeros((1, 1)), {m.__name__ for m in METRICS}),
    "all constant": (np.zeros((4, 4)), {m.__name__ for m in METRICS}),
    "one varies": (np.diag([0.0, 1.0, 0.0]), RATIOS),
    "duplicate": (DUPLICATE, {"total_correlation"}),
    "opposite": (np.array([[1.0, -1.0], [-1.0, 1.0]]), {"total_correlation"}),
    "duplicate at another scale": (np.array([[1.0, 1e-3], [1e-3, 1e-6]]), {"total_correlation"}),
    "no correlation": (np.diag([1.0, 2.0, 3.0]), RATIOS),
    "terms that cancel": (
        np.array([[1.0, 0.25, -0.25], [0.25, 1.0, 0.0], [-0.25, 0.0, 1.0]]),
        {"decorrelation_signed"},
    ),
    "constant but for float32 noise": (np.array([[1.0, 0.3e-7], [0.3e-7, NOISE]]), RATIOS),
    "duplicates but for float64 noise": (DUPLICATE + 1e-16 * np.diag([1, 2, 3]), {"total_correlation"}),
}


@pytest.mark.parametrize(("matrix", "undefined"), DEGENERATE.values(), ids=DEGENERATE)
def test_degenerate_covariances_have_no_nan_but_notes(matrix, undefined):
    metrics, notes = covariance_metrics(matrix)
    for metric in METRICS:
        name = metric.__name__
        value = getattr(metrics, name)
        if name in undefined:
            assert value is None
            with pytest.raises(UndefinedMetricError, match=f"{name} is not defined"):
                metric(matrix)
        else:
            assert math.isfinite(value)
    said = " ".join(note.partition(" not defined: ")[0] for note in notes).replace(",", "").split()
    assert sorted(set(said) - {"and", "is", "are"}) == sorted(undefined)
    assert len(notes) <= 2
    json.dumps([notes, *(getattr(metrics, m.__name__) for m in METRICS)], allow_nan=False)


def test_metrics_that_lack_the_same_thing_share_one_sentence():
    _, notes = covariance_metrics(np.eye(1))
    assert notes == (
        (
            "decorrelation, decorrelation_signed and decorrelation_correlation are not defined: they need at least two "
            "dimensions that vary, and there are fewer."
        ),
    )
    _, notes = covariance_metrics(DUPLICATE)
    assert notes == (
        (
            "total_correlation is not defined: it needs linearly independent dimensions, and there are dimensions that "
            "others determine."
        ),
    )
    assert [note.count(" are not defined: they need ") for note in covariance_metrics(np.zeros((3, 3)))[1]] == [1, 1]
    assert covariance_metrics(np.eye(3) + 0.1)[1] == ()


def test_float32_noise_is_left_out_and_small_dimensions_are_not():
    noisy, small = np.diag([1.0, 1.0, NOISE]), np.diag([1.0, 1.0, 1e-9])
    for matrix in (noisy, small):
        matrix[0, 1] = matrix[1, 0] = 0.5
        matrix[1, 2] = matrix[2, 1] = 0.7 * math.sqrt(matrix[2, 2])
    pair = -0.5 * math.log(1 - 0.25)
    assert total_correlation(noisy) == pytest.approx(pair)
    assert total_correlation(small) > 2 * pair
    assert NOISE < module.DEGENERATE < 1e-9


@given(st.integers(1, 6), st.integers(0, 2**32), st.integers(0, 6))
def test_samples_of_any_rank_never_give_nan(dim, seed, rank):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(10, rank)) @ rng.normal(size=(rank, dim))
    metrics, _ = covariance_metrics(np.cov(rows, rowvar=False).reshape(dim, dim))
    for metric in METRICS:
        value = getattr(metrics, metric.__name__)
        assert value is None or math.isfinite(value)


def test_fewer_than_two_images_have_one_note():
    metrics, notes = covariance_metrics(None)
    assert [getattr(metrics, m.__name__) for m in METRICS] == [None] * 7
    assert len(notes) == 1
    assert "at least two images" in notes[0]
