"""Generated sets: that every factor is seen in the images, smoothly, and what the files say of them."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ngvae_tools.datasets import FACTOR_SETS, open_dataset, read_factors, sample_factors, write_sprites
from ngvae_tools.errors import OptionError

NAMES = tuple(FACTOR_SETS)
NEW = NAMES[1:]
SHAPE, SCALE, TURN, X, Y = range(5)


def as_floats(name, values, size=64):
    return FACTOR_SETS[name].render(values, size).astype(np.float32) / 255


def squared_change(one, other):
    return ((one - other) ** 2).sum((1, 2, 3))


def dsprite(shape=0, scale=1.0, turn=0.0, x=0.0, y=0.0, size=64):
    return as_floats("dsprites-like", np.array([[shape, scale, turn, x, y]], float), size)[0, :, :, 0]


def room(floor=0.0, wall=0.25, thing=0.5, scale=0.5, shape=0, angle=0.0, x=0.0, size=64):
    return as_floats("3dshapes-shifted", np.array([[floor, wall, thing, scale, shape, angle, x]], float), size)[0]


# A VAE at sigma = 0.245 pays a dimension of 2 nats or so where it explains more than 0.24 squared pixel units.
@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize(("size", "least"), [(64, 70), (32, 15)])
def test_every_factor_changes_the_images(name, size, least):
    """Redrawing one factor alone: the squared change, and its share of what redrawing all of them changes."""
    chosen = FACTOR_SETS[name]
    values, again = chosen.sample(600, 0), chosen.sample(600, 1)
    images = as_floats(name, values, size)
    everything = squared_change(images, as_floats(name, again, size)).mean()
    for k, factor in enumerate(chosen.names):
        redrawn = values.copy()
        redrawn[:, k] = again[:, k]
        change = squared_change(images, as_floats(name, redrawn, size)).mean()
        assert change > least, (factor, change)
        assert change > 0.05 * everything, (factor, change / everything)


@pytest.mark.parametrize("name", NEW)
def test_extremes_lie_several_hundred_squared_pixels_apart(name):
    chosen = FACTOR_SETS[name]
    for k, factor in enumerate(chosen.factors):
        values = chosen.sample(100, 0)
        series = []
        for value in np.linspace(factor.low, factor.high, int(factor.high) + 1 if factor.kind == "categorical" else 9):
            values[:, k] = value
            series.append(as_floats(name, values))
        farthest = np.max([squared_change(a, b) for a in series for b in series], axis=0)
        assert farthest.mean() > 200, (factor.name, farthest.mean())


@pytest.mark.parametrize("name", NEW)
def test_images_change_smoothly(name):
    """No pixel jumps while a factor moves through a thousandth of its range, over its end too where it goes round."""
    chosen = FACTOR_SETS[name]
    for start in chosen.sample(4, 0):
        for k, factor in enumerate(chosen.factors):
            if factor.kind == "categorical":
                continue
            values = np.tile(start, (1001, 1))
            values[:, k] = np.linspace(factor.low, factor.high, 1001)
            images = as_floats(name, values, 32)
            assert np.abs(np.diff(images, axis=0)).max() < 0.12, factor.name
            if factor.kind == "circular":
                np.testing.assert_allclose(images[0], images[-1], atol=2 / 255)


@pytest.mark.parametrize("shape", range(3))
def test_no_orientation_looks_like_another(shape):
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    images = [dsprite(shape, turn=turn) for turn in turns]
    area = images[0].sum()
    for k in range(2, 23):
        assert ((images[0] - images[k]) ** 2).sum() > 0.35 * area
    # The opposite is no nearer than others, so that the circle does not fold.
    assert ((images[0] - images[12]) ** 2).sum() > 0.7 * area


@given(st.integers(0, 2), st.floats(0.5, 1), st.floats(0, 2 * np.pi), st.floats(-0.33, 0.33), st.floats(-0.33, 0.33))
def test_a_shape_lies_where_it_should_and_is_not_cut(shape, scale, turn, x, y):
    image = dsprite(shape, scale, turn, x, y)
    pixels = (np.arange(64) + 0.5) / 32 - 1
    assert (image.sum(0) @ pixels) / image.sum() == pytest.approx(x, abs=0.02)
    assert (image.sum(1) @ pixels) / image.sum() == pytest.approx(y, abs=0.02)
    assert max(image[0].max(), image[:, 0].max(), image[-1].max(), image[:, -1].max()) < 0.25


def outline(shape):
    """Corners (P, 2) across and along, any origin and unit."""
    if shape == 0:
        return np.array([[0, 1], [0.6, -0.8], [0, -0.35], [-0.6, -0.8]])
    if shape == 1:
        angle = np.linspace(0, np.pi, 200)
        ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.concatenate([ring, 0.45 * ring[::-1]])
    return np.array([[0, 0], [1.15, 0], [1.15, 0.5], [0.5, 0.5], [0.5, 1.6], [0, 1.6]])


@pytest.mark.parametrize("shape", range(3))
@pytest.mark.parametrize("turn", [0.0, 1.0, 4.0])
def test_shapes_equal_polygons_drawn_by_pillow(shape, turn):
    corners = outline(shape)
    x, y = corners.T
    x2, y2 = np.roll(corners, -1, axis=0).T
    cross = x * y2 - x2 * y
    centroid = np.array([((x + x2) * cross).sum(), ((y + y2) * cross).sum()]) / (3 * cross.sum())
    corners = corners - centroid
    corners /= np.hypot(*corners.T).max()
    turned = corners @ np.array([[np.cos(turn), np.sin(turn)], [np.sin(turn), -np.cos(turn)]])
    fine = 16
    place = (turned * 0.66 * 0.8 + [1.1, 0.9]) * 32 * fine
    canvas = Image.new("L", (64 * fine, 64 * fine))
    ImageDraw.Draw(canvas).polygon([tuple(p) for p in place], fill=255)
    expected = np.asarray(canvas.reduce(fine), np.float32) / 255
    found = dsprite(shape, 0.8, turn, 0.1, -0.1)
    assert np.abs(found - expected).sum() < 0.03 * expected.sum()
    assert np.abs(found - expected).max() < 0.35  # at sharp corners, where distances to two edges meet


@given(st.floats(0, 1), st.floats(0, 1))
def test_hues_lie_on_a_circle_about_grey(floor, wall):
    image = room(floor=floor, wall=wall, angle=30.0)
    for pixel, hue in ((image[-1, 0], floor), (image[0, 0], wall)):
        phases = 2 * np.pi * (hue - np.array([0, 1 / 3, 2 / 3]))
        np.testing.assert_allclose(pixel, 0.5 + 0.5 * np.cos(phases), atol=1 / 255)
        assert pixel.sum() == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize(
    ("shape", "area", "outline"),
    [
        (0, 2 * 1.15 * 1.4, 2 * (2.3 + 1.4)),
        (1, 2 * 0.6 * 2.3, 2 * (1.2 + 2.3)),
        (2, np.pi, 2 * np.pi),
        (3, np.pi * 0.45**2 + 2 * 0.45 * (2.9 - 0.9), 2 * np.pi * 0.45 + 2 * 2.0),
    ],
)
@pytest.mark.parametrize("scale", [0.3, 0.45, 0.6])
def test_objects_have_their_areas_and_stand_on_the_floor(shape, area, outline, scale):
    # Pixels that the outline crosses count whole.
    image = room(floor=0.0, wall=0.0, thing=0.5, scale=scale, shape=shape, angle=-30.0)
    empty = room(floor=0.0, wall=0.0, thing=0.0, scale=scale, shape=shape, angle=-30.0)
    touched = np.abs(image - empty).sum(2) > 0.02
    inside = area * (32 * scale) ** 2
    assert inside < touched.sum() < inside + outline * 32 * scale
    assert np.flatnonzero(touched.any(1))[-1] in {58, 59}  # 0.85 half-widths below the middle


def test_orientation_moves_the_corner_of_the_walls():
    row = [room(wall=0.0, angle=angle)[0, :, 0] for angle in (-30.0, 0.0, 30.0)]
    assert [int((r > 0.675).sum()) for r in row] == [6, 32, 58]


@pytest.mark.parametrize("name", NEW)
@settings(max_examples=20)
@given(n=st.integers(1, 2500), seed=st.integers(0, 2**32))
def test_the_first_factors_do_not_depend_on_how_many(name, n, seed):
    chosen = FACTOR_SETS[name]
    np.testing.assert_array_equal(chosen.sample(n, seed), chosen.sample(2500, seed)[:n])


@pytest.mark.parametrize("name", NAMES)
def test_rendering_does_not_depend_on_the_batch(name):
    chosen = FACTOR_SETS[name]
    values = chosen.sample(100, 3)
    alone = np.concatenate([chosen.render(values[k : k + 1], 16) for k in range(100)])
    np.testing.assert_array_equal(chosen.render(values, 16), alone)


@pytest.mark.parametrize("name", NAMES)
def test_values_fill_their_ranges(name):
    chosen = FACTOR_SETS[name]
    values = chosen.sample(5000, 0)
    for factor, column in zip(chosen.factors, values.T, strict=True):
        assert factor.low <= column.min() <= column.max() <= factor.high
        assert column.min() - factor.low < 0.002 * (factor.high - factor.low)
        assert factor.high - column.max() < 0.002 * (factor.high - factor.low)
        if factor.kind == "categorical":
            assert np.bincount(column.astype(int)).min() > 0.9 * 5000 / (factor.high + 1)


def test_the_paper_s_set_is_the_paper_s():
    np.testing.assert_array_equal(
        FACTOR_SETS["paper"].sample(50, 4, grid={"x": 3}), sample_factors(50, 4, grid={"x": 3})
    )


def test_grids_and_fixed_values_leave_the_others_alone():
    chosen = FACTOR_SETS["dsprites-like"]
    free = chosen.sample(2000, 0)
    part = chosen.sample(2000, 0, grid={"orientation": 4, "shape": 2, "scale": 5}, fixed={"x": 0.25})
    np.testing.assert_allclose(np.unique(part[:, TURN]), np.arange(4) * np.pi / 2)
    np.testing.assert_allclose(np.unique(part[:, SCALE]), np.linspace(0.5, 1, 5))
    assert np.unique(part[:, SHAPE]).tolist() == [0, 1]
    assert np.unique(part[:, X]).tolist() == [0.25]
    np.testing.assert_array_equal(part[:, Y], free[:, Y])


@pytest.mark.parametrize(
    "arguments",
    [
        {"fixed": {"hue": 0.5}},
        {"grid": {"hue": 3}},
        {"fixed": {"x": 0.5}},
        {"fixed": {"x": float("nan")}},
        {"fixed": {"shape": 0.5}},
        {"fixed": {"shape": 3}},
        {"fixed": {"orientation": 2 * np.pi}},
        {"fixed": {"x": 0}, "grid": {"x": 3}},
        {"grid": {"shape": 4}},
        {"grid": {"x": 0}},
        {"factors": "grid"},
        {"images": 0},
        {"images": None},
        {"seed": -1},
        {"size": 7},
        {"image_set": "faces"},
        {"image_set": "paper", "factors": "grid", "fixed": {"x": 0}},
    ],
)
def test_unusable_arguments_are_option_errors(tmp_path, arguments):
    with pytest.raises(OptionError):
        write_sprites(tmp_path / "a.h5", **({"images": 1, "image_set": "dsprites-like"} | arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "fixed", "interval"),
    [
        ("dsprites-like", {"shape": 0, "scale": 1, "orientation": 0}, (2, 2)),
        ("dsprites-like", {"shape": 0, "scale": 1}, (4, 4)),
        ("dsprites-like", {"shape": 0}, (5, 5)),
        ("dsprites-like", {}, (6, 7)),
        ("3dshapes-like", {"floor_hue": 0, "wall_hue": 0.3}, (5, 7)),
        ("3dshapes-like", {}, (9, 11)),
        ("3dshapes-shifted", {}, (10, 12)),
    ],
)
def test_files_of_two_to_seven_factors(tmp_path, name, fixed, interval):
    path = tmp_path / "a.h5"
    write_sprites(path, images=300, size=32, seed=2, image_set=name, fixed=fixed)
    chosen = FACTOR_SETS[name]
    factors = read_factors(path, rows=300)
    assert (factors.names, factors.kinds, set(factors.declared)) == (chosen.names, chosen.kinds, {True})
    np.testing.assert_array_equal(factors.values, chosen.sample(300, 2, fixed=fixed))
    assert factors.intrinsic_interval() == interval
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.read(0, 300)[0].images, chosen.render(factors.values, 32))
    with h5py.File(path) as file:
        assert file.attrs["set"] == name
        assert {k: file.attrs[f"fixed_{k}"] for k in fixed} == fixed
    write_sprites(tmp_path / "b.h5", images=300, size=32, seed=2, image_set=name, fixed=fixed)
    assert path.read_bytes() == (tmp_path / "b.h5").read_bytes()
