import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ngvae_tools.analysis.stability import (
    ModelSample,
    compare_pair,
    correlations,
    match_dimensions,
    spearman,
    stability_of,
    udr,
)

GRID = np.array(list(itertools.product(range(6), range(7), range(8), range(5))), dtype=float)


def model(name, values, dimensions=None):
    values = np.asarray(values, dtype=float)
    return ModelSample(name, dimensions or tuple(range(values.shape[1])), np.arange(len(values)), values)


def udr_by_definition(x, y):
    """Equation 4 of Duan et al. 2020, term by term."""
    strength = [[abs(stats.spearmanr(a, b).statistic) for b in y.T] for a in x.T]
    d_a, d_b = x.shape[1], y.shape[1]
    columns = sum(
        max(strength[a][b] for a in range(d_a)) ** 2 / sum(strength[a][b] for a in range(d_a)) for b in range(d_b)
    )
    rows = sum(max(strength[a]) ** 2 / sum(strength[a]) for a in range(d_a))
    return (columns + rows) / (d_a + d_b)


def test_the_same_model_permuted_flipped_and_bent():
    other = np.column_stack([-GRID[:, 2], np.exp(GRID[:, 0]), 3 * GRID[:, 3], -(GRID[:, 1] ** 3)])
    pair = compare_pair(model("a", GRID, (1, 4, 5, 9)), model("b", other, (0, 2, 3, 7)))
    assert pair.udr == pytest.approx(1.0, abs=1e-12)
    assert {(m.a, m.b) for m in pair.matches} == {(1, 2), (4, 7), (5, 0), (9, 3)}
    assert (pair.alone_a, pair.alone_b) == ((), ())
    flipped = compare_pair(model("a", GRID), model("b", -GRID[:, [3, 1, 0, 2]]))
    assert [m.correlation for m in flipped.matches] == pytest.approx([-1.0] * 4)
    assert pair.udr_chance < 0.1


def test_udr_of_independent_models_is_near_chance():
    rng = np.random.default_rng(0)
    pairs = [
        compare_pair(model("a", rng.normal(size=(5000, 6))), model("b", rng.normal(size=(5000, 6)))) for _ in range(8)
    ]
    scores, chance = [p.udr for p in pairs], [p.udr_chance for p in pairs]
    error = math.sqrt((np.var(scores, ddof=1) + np.var(chance, ddof=1)) / 8)
    assert abs(np.mean(scores) - np.mean(chance)) < 4 * error
    assert max(scores) < 0.05
    assert pairs[0].alone_a == tuple(range(6))


def test_a_rotation_lowers_udr_and_loses_partners():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(20000, 3))
    turned = values.copy()
    turned[:, :2] = values[:, :2] @ np.array([[1, -1], [1, 1]]) / math.sqrt(2)
    pair = compare_pair(model("a", values), model("b", turned))
    # Of the turned pair each correlation is 6/pi asin(sqrt(1/8)) in ranks, and r**2 / 2r is half of it.
    rank = 6 / math.pi * math.asin(math.sqrt(0.5) / 2)
    assert pair.udr == pytest.approx((2 * rank / 2 + 1) / 3, abs=0.02)
    assert [abs(m.correlation) for m in pair.matches][2] == pytest.approx(1.0)


@pytest.mark.parametrize("widths", [(4, 4), (2, 5), (1, 3), (1, 1)])
def test_udr_against_its_definition(widths):
    rng = np.random.default_rng(2)
    mixed = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 9))
    x, y = mixed[:, : widths[0]], np.round(mixed[:, 4 : 4 + widths[1]], 1)
    assert udr(spearman(x, y)) == pytest.approx(udr_by_definition(x, y), rel=1e-10)


def test_matching_is_the_best_of_all():
    rng = np.random.default_rng(3)
    for shape in ((4, 4), (3, 5), (5, 2)):
        correlation = rng.uniform(-1, 1, shape)
        wide = correlation if shape[0] <= shape[1] else correlation.T
        best = max(
            sum(abs(wide[i, j]) for i, j in enumerate(columns))
            for columns in itertools.permutations(range(wide.shape[1]), wide.shape[0])
        )
        assert sum(abs(r) for _, _, r in match_dimensions(correlation)) == pytest.approx(best)


def test_constant_dimensions_correlate_with_nothing():
    values = np.column_stack([np.arange(50.0), np.full(50, 0.1)])
    assert np.array_equal(correlations(values, values), [[pytest.approx(1.0), 0], [0, 0]])
    assert udr(spearman(values, values)) == pytest.approx(0.5)
    assert udr(np.zeros((0, 3))) is None


def test_images_are_joined_by_number():
    rng = np.random.default_rng(4)
    values, images = rng.normal(size=(300, 2)), np.arange(300) * 7
    some = np.sort(rng.permutation(300)[:200])
    pair = compare_pair(ModelSample("a", (0, 1), images, values), ModelSample("b", (0, 1), images[some], values[some]))
    assert pair.n_images == 200
    assert [m.correlation for m in pair.matches] == pytest.approx([1.0, 1.0])
    assert compare_pair(model("a", values[:2]), model("b", values[:2])) is None


def test_the_counts_and_how_often_a_dimension_is_found_again():
    rng = np.random.default_rng(5)
    factors = rng.normal(size=(2000, 4))
    models = [
        model("a", factors[:, :3], (0, 2, 5)),
        model("b", factors[:, [1, 0, 3]], (1, 4, 6)),
        model("c", np.column_stack([factors[:, 0], rng.normal(size=(2000, 3))]), (0, 1, 2, 3)),
    ]
    pairs = [compare_pair(x, y) for x, y in itertools.combinations(models, 2)]
    found = stability_of([(m.name, m.dimensions) for m in models], pairs, ["a note"])
    assert (found.count_mean, found.count_range) == (pytest.approx(10 / 3), (3, 4))
    assert found.count_sd == pytest.approx(math.sqrt(1 / 3))
    assert [m.found for m in found.models] == [(2, 1, 0), (1, 2, 0), (2, 0, 0, 0)]
    assert found.models[0].udr == pytest.approx((pairs[0].udr + pairs[1].udr) / 2)
    assert found.notes == ("a note",)
    lone = stability_of([("a", (0,)), ("b", ())], [], [])
    assert [(m.udr, m.others, m.count) for m in lone.models] == [(None, 0, 1), (None, 0, 0)]
