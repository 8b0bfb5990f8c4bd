"""The paper's sprites: what is drawn, and what is written."""

import colorsys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_disk import LIMIT_FILES, run_python, small_disk

from ngvae_tools.datasets import (
    FACTOR_NAMES,
    open_dataset,
    read_factors,
    render,
    sample_factors,
    write_sprites,
)
from ngvae_tools.errors import OptionError, OutputError

UNIT = st.floats(0, 1, exclude_max=True)


def one(colour=0.0, shape=0, x=0.0, y=0.0, depth=1.0):
    return render(np.array([[colour, shape, x, y, depth]], np.float64))[0]


@given(st.integers(0, 2), st.floats(-0.6, 0.6), st.floats(-0.6, 0.6), st.floats(1, 2.2))
def test_areas_agree_with_the_closed_form(shape, x, y, depth):
    radius = 0.36 / depth * 32
    area = {0: (1.7 * radius) ** 2, 1: np.pi * radius**2, 2: 1.8 * radius**2}[shape]
    covered = one(0.0, shape, x, y, depth)[..., 0].sum() / 255
    assert covered == pytest.approx(area, rel=0.02)


@given(st.integers(0, 2), st.floats(-0.6, 0.6), st.floats(-0.6, 0.6))
def test_nearer_is_larger(shape, x, y):
    areas = [int(one(0.0, shape, x, y, depth)[..., 0].sum()) for depth in (1, 1.4, 1.8, 2.2)]
    assert areas == sorted(areas, reverse=True)


@given(UNIT)
def test_the_colour_is_the_saturated_hue(hue):
    expected = np.array(colorsys.hsv_to_rgb(hue, 1, 1)) * 255
    np.testing.assert_allclose(one(hue)[32, 32], expected, atol=1)


@given(st.integers(0, 2), st.floats(-0.6, 0.6), st.floats(-0.6, 0.6))
def test_the_shape_lies_where_it_should_and_is_not_cut(shape, x, y):
    image = one(0.0, shape, x, y)[..., 0].astype(float)
    pixels = (np.arange(64) + 0.5) / 32 - 1
    assert (image.sum(0) @ pixels) / image.sum() == pytest.approx(x, abs=0.01)
    if shape < 2:
        assert (image.sum(1) @ pixels) / image.sum() == pytest.approx(y, abs=0.01)
    # The distance to two edges leaves a trace beyond a triangle's sharp corners.
    assert max(image[0].max(), image[:, 0].max(), image[-1].max(), image[:, -1].max()) < (40 if shape == 2 else 1)


def test_the_triangle_points_up():
    image = one(shape=2)[..., 0]
    widths = (image > 127).sum(1)
    assert widths[22] < widths[30] < widths[38]


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_the_first_factors_do_not_depend_on_how_many(n, seed):
    np.testing.assert_array_equal(sample_factors(n, seed), sample_factors(3000, seed)[:n])


def test_rendering_does_not_depend_on_the_batch():
    factors = sample_factors(100, 3)
    together = render(factors, 16)
    alone = np.concatenate([render(factors[k : k + 1], 16) for k in range(100)])
    np.testing.assert_array_equal(together, alone)


def test_continuous_factors_fill_their_ranges():
    factors = sample_factors(5000, 0)
    low, high = factors.min(0), factors.max(0)
    np.testing.assert_allclose(low, [0, 0, -0.6, -0.6, 1], atol=0.01)
    np.testing.assert_allclose(high, [1, 2, 0.6, 0.6, 2.2], atol=0.01)
    assert np.bincount(factors[:, 1].astype(int)).min() > 1500


def test_the_grid_holds_every_combination_once():
    factors = sample_factors(2 * 5184, 0, factors="grid")
    first, second = factors[:5184], factors[5184:]
    assert len(np.unique(first, axis=0)) == 5184
    np.testing.assert_array_equal(np.unique(first, axis=0), np.unique(second, axis=0))
    assert (first != second).any()
    assert [len(np.unique(column)) for column in first.T] == [3, 3, 12, 12, 4]


def test_single_factors_on_a_grid_leave_the_others_alone():
    free, part = (
        sample_factors(2000, 0),
        sample_factors(2000, 0, grid={"x": 5, "colour": 4, "depth": 1, "shape": 2}),
    )
    np.testing.assert_allclose(np.unique(part[:, 2]), np.linspace(-0.6, 0.6, 5))
    np.testing.assert_allclose(np.unique(part[:, 0]), np.arange(4) / 4)
    assert np.unique(part[:, 1]).tolist() == [0, 1]
    np.testing.assert_allclose(part[:, 4], 1.6)
    np.testing.assert_array_equal(part[:, 3], free[:, 3])


@pytest.mark.parametrize(
    "arguments",
    [
        {"images": 0},
        {"images": None},
        {"images": 1, "size": 7},
        {"images": 1, "seed": -1},
        {"images": 1, "factors": "other"},
        {"images": 1, "grid": {"angle": 3}},
        {"images": 1, "grid": {"shape": 4}},
        {"images": 1, "grid": {"x": 0}},
        {"images": 1, "factors": "grid", "grid": {"x": 3}},
    ],
)
def test_unusable_arguments_are_option_errors(tmp_path, arguments):
    with pytest.raises(OptionError):
        write_sprites(tmp_path / "a.h5", **arguments)
    assert not list(tmp_path.iterdir())


def test_the_file_is_as_users_of_3dshapes_know_it(tmp_path):
    calls = []
    path = tmp_path / "new" / "a.h5"
    summary = write_sprites(path, images=600, size=16, seed=5, progress=lambda *done: calls.append(done))
    assert calls == [(256, 600), (512, 600), (600, 600)]
    assert (summary.path, summary.images, summary.size) == (path, 600, 16)
    assert summary.file_bytes == path.stat().st_size
    factors = read_factors(path)
    assert factors.names == FACTOR_NAMES
    np.testing.assert_array_equal(factors.values, sample_factors(600, 5))
    with h5py.File(path) as file:
        assert tuple(file.attrs["factor_names"]) == FACTOR_NAMES
        assert file.attrs["seed"] == 5
        assert file["images"].chunks == (256, 16, 16, 3)
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.read(0, 600)[0].images, render(factors.values, 16))
    assert [p.name for p in path.parent.iterdir()] == ["a.h5"]


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write_sprites(tmp_path / name, images=300, size=8, grid={"x": 3})
    write_sprites(tmp_path / "c.h5", images=300, size=8, grid={"x": 3}, seed=1)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert (tmp_path / "a.h5").read_bytes() != (tmp_path / "c.h5").read_bytes()


def test_a_whole_grid_needs_no_number(tmp_path):
    assert write_sprites(tmp_path / "a.h5", images=None, size=8, factors="grid").images == 5184


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    path = tmp_path / "a.h5"
    path.write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        write_sprites(path, images=1, size=8)
    assert path.read_text() == "mine"
    write_sprites(path, images=1, size=8, overwrite=True)
    assert h5py.is_hdf5(path)


WRITE = """
import pathlib, sys
from ngvae_tools.datasets import write_sprites
from ngvae_tools.errors import OutputError
path = pathlib.Path(sys.argv[1])
path.write_text("old")
try:
    write_sprites(path, images=2000, size=32, overwrite=True)
except OutputError as error:
    print(error)
print(sorted(p.name for p in path.parent.iterdir()), path.read_text())
write_sprites(sys.argv[2], images=10, size=8)
"""


def test_a_full_disk_leaves_nothing_new_and_the_process_whole(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        printed = run_python(WRITE, disk / "a.h5", tmp_path / "b.h5")
    assert "No space left on device" in printed
    assert printed.endswith("['a.h5'] old\n")
    assert read_factors(tmp_path / "b.h5").values.shape == (10, 5)


def test_a_limit_on_file_sizes_is_an_output_error_too(tmp_path):
    (tmp_path / "out").mkdir()
    printed = run_python(LIMIT_FILES + WRITE, tmp_path / "out" / "a.h5", tmp_path / "b.h5")
    assert "File too large" in printed
    assert printed.endswith("['a.h5'] old\n")


def test_a_parent_that_is_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        write_sprites(tmp_path / "file" / "a.h5", images=1, size=8)


def test_an_interruption_leaves_nothing_behind(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_sprites(tmp_path / "a.h5", images=1, size=8, progress=interrupt)
    assert not list(tmp_path.iterdir())
