"""DCI and SAP: written again from their definitions, values on paper, chance."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.svm import LinearSVC

from ngvae_tools.analysis.disentanglement.prediction import Split, concentration, dci, sap


def split_of(mu, codes, seed=0):
    order = np.random.default_rng(seed).permutation(len(mu))
    learn, judge = order[: 2 * len(mu) // 3], order[2 * len(mu) // 3 :]
    return Split(mu[learn], codes[learn], mu[judge], codes[judge])


def mixed(n=450, seed=0):
    draw = np.random.default_rng(seed)
    codes = np.stack([draw.integers(4, size=n), draw.integers(2, size=n)], axis=1)
    return codes @ draw.normal(size=(2, 3)) + 0.7 * draw.normal(size=(n, 3)), codes


def naive_dci(split, trees, seed):
    importance, accuracy = np.zeros((split.mu.shape[1], split.codes.shape[1])), []
    for j in range(split.codes.shape[1]):
        model = GradientBoostingClassifier(n_estimators=trees, random_state=seed + j)
        model.fit(split.mu, split.codes[:, j])
        importance[:, j] = np.abs(model.feature_importances_)
        accuracy.append(np.mean(model.predict(split.test_mu) == split.test_codes[:, j]))
    by_code = 1 - entropy(importance.T + 1e-11, base=importance.shape[1])
    by_factor = 1 - entropy(importance + 1e-11, base=importance.shape[0])
    code_share = importance.sum(axis=1) / importance.sum()
    factor_share = importance.sum(axis=0) / importance.sum()
    return np.sum(by_code * code_share), np.sum(by_factor * factor_share), np.mean(accuracy)


def test_dci_is_its_definition():
    split = split_of(*mixed())
    found = dci(split, 10, seed=3)
    expected = naive_dci(split, 10, seed=3)
    np.testing.assert_allclose([found.disentanglement, found.completeness, found.informativeness], expected, rtol=1e-12)
    assert all(0.02 < value < 0.98 for value in expected)


def test_sap_is_its_definition():
    split = split_of(*mixed())
    gaps = []
    for y, expected in zip(split.codes.T, split.test_codes.T, strict=True):
        scores = []
        for x, judged in zip(split.mu.T, split.test_mu.T, strict=True):
            model = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(x[:, None], y)
            scores.append(np.mean(model.predict(judged[:, None]) == expected))
        scores.sort()
        gaps.append(scores[-1] - scores[-2])
    assert sap(split, seed=0) == pytest.approx(np.mean(gaps), rel=1e-12)
    assert 0.02 < np.mean(gaps) < 0.9


def test_concentration_by_hand():
    assert concentration(np.eye(3)) == pytest.approx(1)
    assert concentration(np.ones((2, 4))) == pytest.approx(0)
    # A row of one and a row of two equal shares, weighted 1 : 3.
    assert concentration(np.array([[1.0, 0.0], [1.5, 1.5]])) == pytest.approx(1 / 4)
    assert concentration(np.zeros((2, 3))) == pytest.approx(0)


def test_a_dimension_a_factor_is_perfect():
    codes = np.stack(np.meshgrid([0, 1], [0, 1], np.arange(60), indexing="ij"), axis=-1).reshape(-1, 3)[:, :2]
    split = split_of(codes[:, [1, 0]] * 2.0 - 1, codes)
    found = dci(split, 5, seed=0)
    assert found.disentanglement == pytest.approx(1, abs=1e-8)
    assert found.completeness == pytest.approx(1, abs=1e-8)
    assert found.informativeness == 1
    # One dimension tells a coin for certain, the other guesses: 1 - 1/2 up to the draw of the test images.
    n = len(split.test_mu)
    assert abs(sap(split, seed=0) - 1 / 2) < 4 * np.sqrt(1 / 4 / n)


def test_one_factor_or_dimension_leaves_scores_out():
    mu, codes = mixed(120)
    one = dci(split_of(mu, codes[:, :1]), 3, seed=0)
    assert (one.disentanglement, one.completeness is None) == (None, False)
    one = dci(split_of(mu[:, :1], codes), 3, seed=0)
    assert (one.disentanglement is None, one.completeness) == (False, None)


def test_constant_dimensions_have_no_share():
    mu, codes = mixed(200)
    split = split_of(np.column_stack([mu, np.zeros(200)]), codes)
    found = dci(split, 5, seed=0)
    assert found.disentanglement == pytest.approx(dci(split_of(mu, codes), 5, seed=0).disentanglement, abs=0.05)


def test_means_that_do_not_know_the_factors_are_at_chance():
    draw = np.random.default_rng(4)
    codes = np.stack([np.arange(3000) % 3, np.arange(3000) % 2], axis=1)
    split = split_of(draw.normal(size=(3000, 4)), draw.permutation(codes))
    error = np.sqrt((2 / 9 + 1 / 4) / 4 / len(split.test_mu))
    found = dci(split, 5, seed=0)
    assert abs(found.informativeness - (1 / 3 + 1 / 2) / 2) < 4 * error
    # The best two of four guesses lie within the spread of a guess.
    assert sap(split, seed=0) < 4 * np.sqrt(2 / 9 / len(split.test_mu))


def test_threads_do_not_change_the_result(monkeypatch):
    split = split_of(*mixed(150))
    many = dci(split, 4, seed=1)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert dci(split, 4, seed=1) == many


def test_sap_does_not_see_the_order_of_dimensions():
    mu, codes = mixed(150)
    assert sap(split_of(mu[:, [2, 0, 1]], codes), seed=0) == sap(split_of(mu, codes), seed=0)
