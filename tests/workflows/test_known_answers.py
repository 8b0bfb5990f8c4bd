"""Encoders built by hand as ONNX graphs, for which every criterion has an answer derived on paper."""

import math

import numpy as np
import pytest
from inference.graphs import Linear
from scipy.integrate import quad
from scipy.stats import t as student

from ngvae_tools import select_latents
from ngvae_tools.posteriors import NormalGammaPosterior

SHAPE = (1, 5, 3)
PIXELS = 15


def normal_images(count, seed=0, pixels=PIXELS):
    """Float images whose first `pixels` samples are independent N(0, 1), the others 0."""
    images = np.zeros((count, PIXELS), dtype=np.float32)
    images[:, :pixels] = np.random.default_rng(seed).standard_normal((count, pixels))
    return images.reshape(count, *SHAPE)


@pytest.fixture
def analyse(tmp_path, as_h5):
    """Record and notes of a linear encoder mu = x A with the second head constant, over normal images."""

    def run(weights, *, second="logvar", constant, count=20_000, pixels=PIXELS, **options):
        dim = weights.shape[1]
        linear = Linear(dim, SHAPE, second=second, constant=constant)
        linear.mu_weight = np.zeros((PIXELS, dim))
        linear.mu_weight[: len(weights)] = weights
        linear.mu_bias = np.zeros(dim)
        encoder = linear.save(tmp_path / "encoder.onnx", sample_type="float32")
        data = as_h5(tmp_path / "data.h5", normal_images(count, pixels=pixels))
        return select_latents(encoder, data, tmp_path / "out", overwrite=True, **options)

    return run


def verdicts(record):
    return {rule.rule: rule.informative for rule in record.rules}


def column(record, name):
    return [getattr(row, name) for row in record.dimensions]


def test_a_given_covariance(analyse):
    covariance = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.5], [0.0, -0.5, 0.5]])
    variance = np.array([0.01, 0.25, 0.8])
    record = analyse(np.linalg.cholesky(covariance).T, constant=np.log(variance))
    # The error of a covariance of n normal rows is about its size times sqrt(2 / n) = 0.01.
    np.testing.assert_allclose(record.covariance, covariance, atol=0.06)
    diagonal, metrics = np.diag(covariance), record.metrics
    share = diagonal / diagonal.sum()
    assert metrics.entropy == pytest.approx(-(share * np.log(share)).sum(), abs=0.01)
    assert metrics.effective_dimensions == pytest.approx(math.exp(metrics.entropy))
    assert metrics.decorrelation == pytest.approx(3.5 / 2.2, rel=0.03)
    assert metrics.decorrelation_signed == pytest.approx(3.5 / 0.2, rel=0.3)
    correlations = 0.6 / math.sqrt(2) + 0.5 / math.sqrt(1)
    assert metrics.decorrelation_correlation == pytest.approx(3 / (2 * correlations), rel=0.03)
    total = (np.log(diagonal).sum() - np.linalg.slogdet(covariance)[1]) / 2
    assert metrics.total_correlation == pytest.approx(total, abs=0.02)
    assert metrics.participation_ratio == pytest.approx(3.5**2 / (covariance**2).sum(), rel=0.03)
    sampled = covariance + np.diag(variance)
    total = (np.log(np.diag(sampled)).sum() - np.linalg.slogdet(sampled)[1]) / 2
    assert record.sample_metrics.total_correlation == pytest.approx(total, abs=0.02)
    # A Gaussian channel: I = log(1 + signal / noise) / 2.
    np.testing.assert_allclose(column(record, "information"), np.log1p(diagonal / variance) / 2, atol=0.02)
    np.testing.assert_allclose(column(record, "snr"), diagonal / variance, rtol=0.05)
    np.testing.assert_allclose(column(record, "rate"), (diagonal + variance - 1 - np.log(variance)) / 2, atol=0.05)
    assert verdicts(record) == {
        "variance": (True, True, False),
        "active": (True,) * 3,
        "rate": (True,) * 3,
        "information": (True,) * 3,
        "type": (True,) * 3,
        "snr": (True, True, False),
    }
    assert column(record, "type") == ["active", "mixed", "mixed"]
    assert any("The rules disagree" in note for note in record.notes)


def test_intervals_hold_the_truth(analyse):
    record = analyse(np.diag([1.0, 2.0]), constant=np.log([0.1, 0.5]), count=5000)
    truth = {"mu_mean": (0, 0), "mu_variance": (1, 4), "information": np.log1p([10, 8]) / 2, "snr": (10, 8)}
    for name, values in truth.items():
        for row, value in zip(record.dimensions, values, strict=True):
            low, high = row.intervals[name]
            assert low <= getattr(row, name) <= high
            # A 95 % interval misses one truth in twenty; twice its width practically never does.
            middle, half = (low + high) / 2, (high - low) / 2
            assert abs(value - middle) < 2 * half, name
    assert all(rule.count_interval == (rule.count, rule.count) for rule in record.rules)


def test_a_collapsed_dimension(analyse):
    record = analyse(np.diag([1.0, 0.0]), constant=[math.log(0.05), 0.0])
    assert all(verdict == (True, False) for verdict in verdicts(record).values()), verdicts(record)
    collapsed = record.dimensions[1]
    assert (collapsed.mu_variance, collapsed.rate, collapsed.snr, collapsed.type) == (0.0, 0.0, 0.0, "passive")
    assert collapsed.information == pytest.approx(0.0, abs=1e-3)
    assert record.intrinsic_dimension.dimensions == (0,)
    assert record.intrinsic_dimension.two_nn == pytest.approx(1.0, abs=0.1)


def test_a_duplicated_dimension(analyse):
    weights = np.zeros((2, 3))
    weights[0, 0] = weights[0, 1] = weights[1, 2] = 1.0
    record = analyse(weights, constant=math.log(0.02))
    assert record.metrics.total_correlation is None
    assert any("total_correlation is not defined" in note and "others determine" in note for note in record.notes)
    assert record.dimensions[0].information == record.dimensions[1].information
    assert record.metrics.participation_ratio == pytest.approx(9 / 5, abs=0.05)
    assert record.intrinsic_dimension.dimensions == (0, 1, 2)
    assert record.intrinsic_dimension.two_nn == pytest.approx(2.0, abs=0.15)


def test_scaled_mu_at_the_uninformative_law(analyse):
    """SCIENCE.md section 2: p says nothing is informative, and every dimension carries information."""
    record = analyse(10 * np.eye(15), second="p", constant=1.0)
    family = NormalGammaPosterior()
    found = verdicts(record)
    assert found["p"] == found["variance"] == found["type"] == (False,) * 15
    for rule in ("active", "rate", "information", "snr"):
        assert found[rule] == (True,) * 15
    assert column(record, "type") == ["passive"] * 15
    alpha, beta = (float(v[0]) for v in family.parameters(np.ones(1)))
    # mu^2 alpha / beta / 2 on average, above the floor (Eq. 9).
    above = np.array(column(record, "rate")) - column(record, "rate_floor")
    np.testing.assert_allclose(above, 50 * alpha / beta, rtol=0.05)
    assert column(record, "rate_floor") == [pytest.approx(3.56, abs=0.01)] * 15
    # The aggregate is N(0, 100) and a Student-t so close to a normal law that the sum is one.
    noise = student(2 * alpha, scale=math.sqrt(beta / alpha))
    entropy = -quad(lambda v: noise.pdf(v) * noise.logpdf(v), -12, 12)[0]
    truth = 0.5 * math.log(2 * math.pi * math.e * (100 + noise.var())) - entropy
    np.testing.assert_allclose(column(record, "information"), truth, atol=0.02)
    (sentence,) = [note for note in record.notes if note.startswith("p calls")]
    assert sentence.startswith("p calls 0 dimensions informative, but 15 carry more than 0.1 nat")
    assert "the scale of mu has grown" in sentence


def test_a_redundant_code_says_so(analyse):
    """Fifteen dimensions that carry a cloud of five."""
    weights = np.random.default_rng(1).standard_normal((5, 15))
    record = analyse(weights, constant=math.log(0.01), pixels=5)
    assert record.selection.count == 15
    intrinsic = record.intrinsic_dimension
    assert intrinsic.two_nn == pytest.approx(5.0, abs=0.5)
    assert intrinsic.two_nn_interval[0] <= 5 <= intrinsic.two_nn_interval[1]
    assert any("the code is redundant" in note and "Raise sigma or beta" in note for note in record.notes)


def test_independent_dimensions_are_not_called_redundant(analyse):
    record = analyse(np.eye(5), constant=math.log(0.01))
    assert not any("redundant" in note for note in record.notes)


@pytest.mark.parametrize(("count", "dim"), [(1, 3), (2, 3), (3, 5), (30, 1)])
def test_few_images_give_statements_and_no_nan(analyse, count, dim):
    record = analyse(np.eye(dim), constant=math.log(0.1), count=count)
    assert "NaN" not in record.to_json()
    assert record.selection.count == dim
    if count == 1:
        assert column(record, "information") == column(record, "mu_variance") == [None] * dim
        assert any("One image has no spread" in note for note in record.notes)
        assert record.bootstrap is None


def test_constant_images_carry_nothing(analyse):
    record = analyse(np.eye(3), constant=0.0, count=40, pixels=0)
    assert not any(any(verdict) for verdict in verdicts(record).values())
    assert column(record, "information") == [pytest.approx(0.0, abs=1e-3)] * 3
    assert record.intrinsic_dimension is None
    assert any("No dimension carries information" in note for note in record.notes)
