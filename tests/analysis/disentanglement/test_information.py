"""Mutual information, MIG and modularity: against scikit-learn, by hand, and their chance level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy.stats import chi2
from sklearn.metrics import mutual_info_score

from ngvae_tools.analysis.disentanglement.information import (
    entropies,
    equal_width_bins,
    excess,
    information_table,
    mig,
    modularity,
)


def table_of(mu, codes, bins=20):
    return information_table(equal_width_bins(mu, bins), codes)


def mixed(n=900, seed=0):
    draw = np.random.default_rng(seed)
    codes = np.stack([draw.integers(5, size=n), draw.integers(3, size=n) ** 2, draw.integers(2, size=n)], axis=1)
    codes[:, 2] = (codes[:, 2] + codes[:, 0]) % 6
    return codes @ draw.normal(size=(3, 4)) + draw.normal(size=(n, 4)), codes


def naive_mig_and_modularity(mu, codes):
    binned = np.stack([np.digitize(x, np.histogram(x, 20)[1][:-1]) for x in mu.T])
    table = np.array([[mutual_info_score(y, b) for b in binned] for y in codes.T])
    gaps = []
    for y, row in zip(codes.T, table, strict=True):
        first, second = sorted(row)[::-1][:2]
        gaps.append((first - second) / mutual_info_score(y, y))
    scores = []
    for column in table.T:
        best = column.argmax()
        template = np.zeros(len(column))
        template[best] = column[best]
        scores.append(1 - np.sum((column - template) ** 2) / (column[best] ** 2 * (len(column) - 1)))
    return table, np.mean(gaps), np.mean(scores)


def test_table_mig_and_modularity_are_their_definitions():
    mu, codes = mixed()
    table, gap, score = naive_mig_and_modularity(mu, codes)
    found = table_of(mu, codes)
    np.testing.assert_allclose(found, table, rtol=1e-10, atol=1e-13)
    assert mig(found, entropies(codes)) == pytest.approx(gap, rel=1e-10)
    assert modularity(found) == pytest.approx(score, rel=1e-10)
    assert 0.05 < gap < 0.9
    assert 0.05 < score < 0.95


def test_values_by_hand():
    # Factor a: four equal classes, known in full by dimension 0, its parity by dimension 1. Factor b: a coin,
    # known by dimension 2 alone.
    a, b = (column.ravel() for column in np.meshgrid(np.arange(4), np.arange(2)))
    mu = np.column_stack([a, a % 2, b]).astype(float)
    table = table_of(mu, np.column_stack([a, b]))
    log2 = np.log(2)
    np.testing.assert_allclose(table, [[2 * log2, log2, 0], [0, 0, log2]], atol=1e-12)
    np.testing.assert_allclose(entropies(np.column_stack([a, b])), [2 * log2, log2])
    assert mig(table, np.array([2 * log2, log2])) == pytest.approx((1 / 2 + 1) / 2)
    assert modularity(table) == pytest.approx(1)
    # A dimension that knows two factors equally well has modularity 0, one with 2 : 1 has 1 - 1/4.
    assert modularity(np.array([[1.0, 2.0], [1.0, 1.0]])) == pytest.approx((0 + 3 / 4) / 2)
    assert modularity(np.array([[1.0, 0.0], [0.0, 0.0]])) == pytest.approx(1 / 2)


def test_one_dimension_has_no_second():
    assert mig(np.array([[0.4], [0.1]]), np.array([0.8, 0.2])) == pytest.approx(1 / 2)


def test_constant_and_nearly_constant_dimensions_are_one_class_or_few():
    column = np.full(50, 0.3)
    assert not equal_width_bins(column[:, None], 20).any()
    column[:25] = np.nextafter(0.3, 1)
    assert len(np.unique(equal_width_bins(column[:, None], 20))) == 2
    assert equal_width_bins(np.array([[-3e38], [3e38], [0.0]]), 20).ravel().tolist() == [0, 19, 10]


def test_chance_is_the_bias_of_counts():
    # 2 n I is chi-square with (a - 1)(b - 1) degrees of freedom; its mean is what `excess` states.
    draw = np.random.default_rng(1)
    n, cells = 20_000, []
    for _ in range(10):
        latent = draw.integers(6, size=(n, 4))
        codes = draw.integers(5, size=(n, 2))
        cells.append(information_table(latent, codes))
        assert excess(latent, codes) == 20 / (2 * n)
    cells = np.array(cells)
    error = np.sqrt(2 * 20) / (2 * n) / np.sqrt(cells.size)
    assert abs(cells.mean() - 20 / (2 * n)) < 4 * error
    # The gap between the largest and the second of four is below the largest, hence below a high quantile of it.
    assert mig(cells[0], np.full(2, np.log(5))) < chi2.ppf(1 - 1e-6, 20) / (2 * n) / np.log(5)


@limits(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(4)),
    power=st.lists(st.integers(-20, 20), min_size=4, max_size=4),
    relabelled=st.permutations(range(5)),
)
def test_neither_order_nor_scale_nor_names_of_classes_matter(order, power, relabelled):
    mu, codes = mixed(300)
    before = table_of(mu, codes)
    codes[:, 0] = np.array(relabelled)[codes[:, 0]]
    after = table_of(mu[:, order] * 2.0 ** np.array(power), codes)
    np.testing.assert_allclose(after, before[:, order], atol=1e-12)
    assert mig(after, entropies(codes)) == pytest.approx(mig(before, entropies(codes)))
    assert modularity(after) == pytest.approx(modularity(before))
