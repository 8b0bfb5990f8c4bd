"""Plateaus by their stated rule, on known cases and by properties."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.analysis.plateau import EQUALLY_WIDE, LEAST_FACTOR, widest_plateaus
from ngvae_tools.sweep_record import Plateau, Verdict
from ngvae_tools.workflows.sweep import log_spaced

SIGMAS = (0.06, 0.12, 0.245, 0.35, 0.5)

levels = st.lists(
    st.tuples(st.floats(1e-3, 10).map(lambda s: float(f"{s:.4g}")), st.none() | st.integers(0, 6)),
    max_size=9,
    unique_by=lambda level: level[0],
)


def of(counts, sigmas=SIGMAS, latent_dim=15):
    return widest_plateaus(sigmas, counts, latent_dim)


def test_the_widest_run_of_equal_counts_is_the_answer():
    assert of([13, 13, 6, 6, 6]) == (Plateau(6, 0.245, 0.5, 3),)
    assert of([13, 8, 6, 6, 6])[0].factor == pytest.approx(0.5 / 0.245)


def test_collapse_and_saturation_are_no_answers():
    assert of([15, 15, 15, 0, 0]) == ()
    assert of([15, 15, 6, 6, 6]) == (Plateau(6, 0.245, 0.5, 3),)
    assert of([15] * 5, latent_dim=16) == (Plateau(15, 0.06, 0.5, 5),)


def test_a_run_that_is_too_narrow_is_none():
    assert of([13, 9, 8, 6, 6]) == ()  # 0.5 / 0.35 = 1.43
    assert of([7, 7], (1.0, 1.5)) == (Plateau(7, 1.0, 1.5, 2),)
    assert of([7, 7], (1.0, 1.499)) == ()


def test_a_level_without_a_count_ends_a_run():
    assert of([6, 6, None, 6, 6]) == (Plateau(6, 0.06, 0.12, 2),)


def test_ties_are_all_told():
    assert of([9, 9, 5, 5], (0.1, 0.2, 0.4, 0.8)) == (Plateau(9, 0.1, 0.2, 2), Plateau(5, 0.4, 0.8, 2))
    # 0.3 / 0.1 and 0.9 / 0.3 differ in the last bit of a double.
    assert [p.count for p in of([9, 9, 5, 5], (0.1, 0.3, 0.4, 1.2))] == [9, 5]


def test_levels_that_were_rounded_tie_all_the_same():
    sigmas = log_spaced(0.06, 0.5, 5)
    assert len({b / a for a, b in itertools.pairwise(sigmas)}) == 4
    assert [p.count for p in of([9, 9, 6, 6, 4], sigmas)] == [9, 6]
    assert [p.count for p in of([9, 6, 6, 4, 4], sigmas)] == [6, 4]
    assert [p.count for p in of([9, 6, 6, 6, 4], sigmas)] == [6]


def test_one_count_over_two_ranges_is_the_answer():
    two = of([6, 6, 7, 6, 6], (0.1, 0.2, 0.4, 0.8, 1.6))
    assert two == (Plateau(6, 0.1, 0.2, 2), Plateau(6, 0.8, 1.6, 2))
    assert Verdict("p", two).answer == two[0]
    assert Verdict("p", of([9, 9, 7, 6, 6], (0.1, 0.2, 0.4, 0.8, 1.6))).answer is None


def test_no_levels():
    assert of([], ()) == ()


@given(levels, st.randoms())
def test_order_does_not_matter(found, random):
    shuffled = random.sample(found, len(found))
    assert of([n for _, n in found], [s for s, _ in found], 6) == of(
        [n for _, n in shuffled], [s for s, _ in shuffled], 6
    )


@given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=9, unique=True), st.integers(0, 3))
def test_strictly_falling_counts_have_none(sigmas, last):
    sigmas = sorted(sigmas)
    assert of(range(len(sigmas) + last, last, -1), sigmas, 99) == ()


@given(levels)
def test_what_is_claimed_holds(found):
    by_sigma = dict(found)
    plateaus = of(list(by_sigma.values()), list(by_sigma), 6)
    for plateau in plateaus:
        inside = [n for s, n in by_sigma.items() if plateau.low <= s <= plateau.high]
        assert set(inside) == {plateau.count}
        assert len(inside) == plateau.levels >= 2
        assert 0 < plateau.count < 6
        assert plateau.factor >= LEAST_FACTOR * (1 - 1e-9)
        assert math.log(plateau.factor) == pytest.approx(math.log(plateaus[0].factor), rel=EQUALLY_WIDE * 1.1)


@given(levels)
def test_no_wider_range_was_missed(found):
    ordered = sorted(found)
    widest = max((math.log(p.factor) for p in of([n for _, n in found], [s for s, _ in found], 6)), default=0.0)
    for i in range(len(ordered)):
        for j in range(i + 1, len(ordered)):
            counts = {n for _, n in ordered[i : j + 1]}
            factor = ordered[j][0] / ordered[i][0]
            if len(counts) == 1 and counts.isdisjoint({None, 0, 6}) and factor >= LEAST_FACTOR:
                assert math.log(factor) <= widest + 1e-9


@given(levels, st.floats(0.01, 100))
def test_the_scale_of_sigma_does_not_matter(found, scale):
    sigmas, counts = [s for s, _ in found], [n for _, n in found]
    once, again = of(counts, sigmas, 6), of(counts, [s * scale for s in sigmas], 6)
    assert [p.count for p in once] == [p.count for p in again]
