import dataclasses
import json
import math

import numpy as np
import pytest
import records as build
from scipy import stats

from ngvae_tools.analysis.comparisons import StoredRows, comparable, smallest_shift
from ngvae_tools.analysis.drift_verdict import drift_between
from ngvae_tools.analysis.ranges import LISTED, RangeCheck
from ngvae_tools.record import P_BINS


def analysed(values, p=None, kept=None, *, posterior_variance=0.01, data="one"):
    """A record and the stored rows of given latents (n, K), all but `kept` dimensions left out of the file."""
    count, dim = values.shape
    kept = tuple(range(dim)) if kept is None else kept
    record = build.analysis(dim, dim, images=count, family="gaussian" if p is None else "normal-gamma-mixture")
    rows = []
    for k, row in enumerate(record.dimensions):
        column = values[:, k]
        with_p = (
            {}
            if p is None
            else {
                "p_mean": float(p[:, k].mean()),
                "p_std": float(p[:, k].std(ddof=1)) if count > 1 else None,
                "p_histogram": tuple(int(n) for n in np.histogram(p[:, k], P_BINS, (0, 1))[0]),
            }
        )
        rows.append(
            dataclasses.replace(
                row,
                mu_mean=float(column.mean()),
                mu_variance=float(column.var(ddof=1)) if count > 1 else None,
                mu_low=float(column.min()),
                mu_high=float(column.max()),
                posterior_variance=posterior_variance,
                **with_p,
            )
        )
    record = dataclasses.replace(
        record,
        dimensions=tuple(rows),
        data=dataclasses.replace(record.data, fingerprint=f"sha256:{data}"),
        latents=dataclasses.replace(record.latents, dimensions=kept),
    )
    step = np.full(len(kept), math.sqrt(0.12 * (posterior_variance or 0.0)) or 1e-6)
    low = values[:, list(kept)].min(axis=0)
    codes = np.rint((values[:, list(kept)] - low) / step)
    return record, StoredRows(kept, step, low + step * codes)


def compared(a, b, /, **options):
    one, other = analysed(a, **options.pop("a", {})), analysed(b, data="two", **options.pop("b", {}))
    check = None
    if other[1].dimensions:
        rows = [one[0].dimensions[k] for k in other[1].dimensions]
        check = RangeCheck(
            other[1].dimensions,
            np.array([row.mu_low for row in rows]),
            np.array([row.mu_high for row in rows]),
            np.sqrt([row.mu_variance or 0.0 for row in rows]),
            other[1].step / 2,
        )
        check.add(other[1].values, np.arange(len(b)))
        check = check.outside(len(a))
    drift = drift_between(one[0], other[0], one[1], other[1], check, folders=("A", "B"))
    json.loads(drift.to_json())
    return drift


def test_a_known_shift_is_told_with_its_interval():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4000, 5)), rng.normal(size=(3000, 5))
    b[:, 3] = 0.5 + b[:, 3] * 1.5
    drift = compared(a, b)
    assert (drift.differs, drift.differing) == (True, (3,))
    assert drift.verdict.startswith("The data sets differ in dimension 3 (mean +0.5")
    row = drift.dimensions[3]
    for name, true in (("mean", 0.5), ("variance", 2.25)):
        low, high = row.get(name).interval
        assert low < true < high
    low, high = row.get("wasserstein").interval
    assert low < np.abs(np.sort(rng.normal(size=10**6)) * 0.5 + 0.5).mean() < high
    assert all(row.get(name).differs for name in ("mean", "variance", "distribution"))


def test_nothing_is_found_where_nothing_differs_in_nineteen_of_twenty():
    rng, found = np.random.default_rng(1), []
    for _ in range(30):
        a, b = rng.exponential(size=(60, 4)), rng.exponential(size=(40, 4))
        found.append(compared(a, b, b={"kept": (0, 1, 2)}).differs)
    # At most 5 % of comparisons: three standard errors above that is 0.169.
    assert np.mean(found) < 0.169


def test_a_million_images_differ_beyond_chance_by_a_negligible_amount():
    record, rows = analysed(np.random.default_rng(2).normal(size=(2000, 3)))
    many = dataclasses.replace(record, data=dataclasses.replace(record.data, n_images=10**6))
    moved = dataclasses.replace(
        many.dimensions[1], mu_mean=many.dimensions[1].mu_mean + 0.02 * math.sqrt(many.dimensions[1].mu_variance)
    )
    other = dataclasses.replace(many, dimensions=(many.dimensions[0], moved, many.dimensions[2]))
    drift = drift_between(many, other, rows, rows, None, folders=("A", "B"))
    assert (drift.differs, drift.negligible) == (False, (1,))
    assert "No difference that matters beyond chance" in drift.verdict
    assert "Dimension 1 differs beyond chance, but by a negligible amount." in drift.verdict


def test_a_collapsed_dimension_that_trembles_does_not_count():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(3000, 2)), rng.normal(size=(3000, 2))
    a[:, 1], b[:, 1] = a[:, 1] * 1e-3, 1e-3 + b[:, 1] * 2e-3
    drift = compared(a, b, a={"posterior_variance": 0.9}, b={"posterior_variance": 0.9})
    assert (drift.differs, drift.negligible) == (False, (1,))
    assert drift.dimensions[1].get("distribution") is None
    assert any("narrower in A than two steps" in note for note in drift.notes)


def test_two_grids_of_quantisation_are_no_difference():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(20000, 2)), rng.normal(size=(20000, 2))
    drift = compared(a, b, a={"posterior_variance": 1.5}, b={"posterior_variance": 1.5})
    assert drift.dimensions[0].in_both
    assert min(row.get("distribution").corrected for row in drift.dimensions) > 0.04


def test_a_change_of_dependence_alone():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(1500, 4)), rng.normal(size=(1500, 4))
    b[:, 2] = 0.6 * b[:, 0] + 0.8 * b[:, 2]
    drift = compared(a, b)
    assert (drift.differs, drift.differing, drift.joint.pair) == (True, (), (0, 2))
    assert drift.joint.correlations == (pytest.approx(0, abs=0.1), pytest.approx(0.6, abs=0.1))
    assert "no dimension alone does, but their joint distribution does" in drift.verdict
    assert "Taking each dimension alone, " in drift.verdict
    assert drift.verdict.endswith("a change within the range does not show in that.")
    assert "within the range seen in A." in compared(a, a[:700]).verdict


def test_p_that_moves_is_found():
    rng = np.random.default_rng(6)
    values, p = rng.normal(size=(500, 2)), rng.uniform(0.6, 0.7, size=(500, 2))
    moved = p.copy()
    moved[:250, 1] = 0.02
    drift = compared(values, rng.normal(size=(500, 2)), a={"p": p}, b={"p": moved})
    assert drift.differing == (1,)
    shift = drift.dimensions[1].get("p_mean")
    assert shift.interval[0] < shift.value < shift.interval[1]
    assert shift.value == pytest.approx(-0.315, abs=0.02)
    assert "p moved by 0.3" in drift.verdict


class TestDegenerate:
    def test_one_image_each(self):
        drift = compared(np.ones((1, 2)), np.zeros((1, 2)))
        assert (drift.differs, drift.smallest_shift, drift.joint) == (False, None, None)
        assert drift.verdict.startswith("Too few images to tell")

    def test_one_new_image_far_away(self):
        a = np.random.default_rng(0).normal(size=(500, 2))
        drift = compared(a, np.array([[0.0, 50.0]]))
        assert drift.dimensions[1].get("mean").value > 40
        assert drift.outside.worst[0].dimension == 1
        assert "1 of 1 images of B lies outside the range seen in A" in drift.verdict
        assert drift.differing == (1,)

    def test_constant_dimensions(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(100, 3)), rng.normal(size=(100, 3))
        a[:, 1:], b[:, 1], b[:, 2] = 2.0, 2.0, 3.0
        drift = compared(a, b)
        assert drift.differing == (2,)
        assert drift.dimensions[2].get("mean").value is None
        assert "Dimensions 1, 2 are constant in A, so a shift there has no unit." in drift.notes

    def test_no_dimension_in_both_files(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(100, 3)), rng.normal(1.0, size=(100, 3))
        drift = compared(a, b, a={"kept": (0,)}, b={"kept": (1, 2)})
        assert drift.differing == (0, 1, 2)
        assert drift.joint is None
        assert any("No dimension is in both" in note for note in drift.notes)

    def test_no_informative_dimension(self):
        a = np.random.default_rng(0).normal(size=(100, 2))
        drift = compared(a, a, a={"kept": ()}, b={"kept": ()})
        assert (drift.differs, drift.outside, drift.joint) == (False, None, None)
        assert any("no image can be checked" in note for note in drift.notes)

    def test_deterministic_codes(self):
        rng = np.random.default_rng(0)
        drift = compared(
            rng.normal(size=(300, 2)),
            rng.normal([0, 1], 1, size=(300, 2)),
            a={"posterior_variance": None},
            b={"posterior_variance": None},
        )
        assert drift.differing == (1,)


def test_smallest_shift_is_found_four_times_in_five():
    least = smallest_shift(200, 300, 1)
    rng, repeats = np.random.default_rng(7), 2000
    one, other = rng.normal(size=(repeats, 200)), rng.normal(least, 1, size=(repeats, 300))
    found = stats.ttest_ind(one, other, equal_var=False, axis=1).pvalue <= 0.04
    assert found.mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / repeats))
    assert smallest_shift(10**6, 10**6, 30) == 0.1
    assert smallest_shift(1, 10, 3) is None


def test_rows_in_steps_as_wide_as_their_spread_are_not_comparable():
    rows = StoredRows((4,), np.array([1.0]), np.arange(10.0)[:, None] / 100)
    assert not comparable(4, rows, rows)
    assert not comparable(3, rows, rows)
    assert comparable(
        4, dataclasses.replace(rows, step=np.array([0.01])), dataclasses.replace(rows, step=np.array([0.01]))
    )


class TestRanges:
    def check(self, values, names=None, positions=1, **options):
        options = {"low": [0.0, 0.0], "high": [1.0, 1.0], "scale": [0.5, 0.0], "slack": [0.1, 0.1]} | options
        check = RangeCheck((3, 7), *(np.array(options[name]) for name in ("low", "high", "scale", "slack")), positions)
        values = np.asarray(values, dtype=float)
        names = np.arange(len(values)) if names is None else names
        for start in range(0, len(values), 2):
            check.add(values[start : start + 2], names[start : start + 2])
        return check.outside(100)

    def test_half_a_step_is_allowed(self):
        found = self.check([[1.09, 0.5], [1.11, 0.5], [-0.2, -0.05]])
        assert (found.n_images, found.n_outside, found.per_dimension) == (3, 2, (2, 0))
        assert [(image.identifier, image.dimension) for image in found.worst] == [(2, 3), (1, 3)]
        assert found.worst[0].distance == pytest.approx(0.4)
        assert found.by_chance == pytest.approx(4 / 101)

    def test_a_constant_reference_has_no_distance(self):
        found = self.check([[0.5, 3.0], [9.0, 0.5]])
        assert [(image.dimension, image.distance) for image in found.worst] == [(7, None), (3, pytest.approx(16.0))]

    def test_names_and_positions(self):
        names = np.array([b"a/\xff.png", b"b.png"])
        found = self.check([[0.5, 0.5, 5.0, 0.5], [0.5] * 4], names, positions=2)
        assert (found.n_images, found.n_outside) == (2, 1)
        assert found.worst[0].identifier == "a/\udcff.png"

    def test_the_list_is_bounded_and_keeps_the_farthest(self):
        values = np.column_stack([np.arange(LISTED + 5) + 2.0, np.full(LISTED + 5, 0.5)])
        found = self.check(values)
        assert (found.n_outside, len(found.worst), found.left_out) == (LISTED + 5, LISTED, 5)
        assert found.worst[0].identifier == LISTED + 4
        assert found.worst[-1].identifier == 5
