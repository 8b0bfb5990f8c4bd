"""Labels in HDF5 and .npz files: layouts, kinds, damage."""

import io
import zipfile

import h5py
import numpy as np
import pytest

from ngvae_tools.datasets import FACTOR_NAMES, read_factors
from ngvae_tools.errors import DatasetError


def write(path, data, key="labels", **attributes):
    with h5py.File(path, "a") as file:
        labels = file.create_dataset(key, data=data)
        for name, value in attributes.items():
            labels.attrs[name] = value
    return path


def dsprites_values():
    """Some rows of the file as it is published: six columns, the colour always 1."""
    axes = ([1.0], [1.0, 2.0, 3.0], np.linspace(0.5, 1, 6), np.linspace(0, 2 * np.pi, 40), [0.0, 1.0], [0.25])
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 6)


DSPRITES = ("color", "shape", "scale", "orientation", "posX", "posY")
DSPRITES_KINDS = ("categorical", "categorical", "categorical", "circular", "categorical", "categorical")


def test_the_projects_own_sprites_declare_their_kinds(sprites):
    factors = read_factors(sprites, rows=200)
    assert factors.names == FACTOR_NAMES
    assert factors.kinds == ("circular", "categorical", "continuous", "continuous", "continuous")
    assert all(factors.declared)


def test_one_column_and_many(tmp_path):
    one = read_factors(write(tmp_path / "a.h5", np.arange(5)))
    assert (one.names, one.values.shape, one.kinds, one.declared) == (("factor 1",), (5, 1), ("categorical",), (False,))
    many = read_factors(write(tmp_path / "b.h5", np.arange(60.0).reshape(30, 2), names=["x", "y"]))
    assert (many.names, many.kinds) == (("x", "y"), ("continuous", "continuous"))


def test_declared_kinds(tmp_path):
    factors = read_factors(write(tmp_path / "a.h5", np.eye(3), kinds=[b"circular", b"continuous", b"categorical"]))
    assert factors.kinds == ("circular", "continuous", "categorical")
    assert factors.declared == (True, True, True)


@pytest.mark.parametrize("kinds", [["circular"], ["circular", "continuous", "round"]])
def test_kinds_that_cannot_be(tmp_path, kinds):
    with pytest.raises(DatasetError, match="each categorical, continuous or circular"):
        read_factors(write(tmp_path / "a.h5", np.eye(3), kinds=kinds))


def test_text_cannot_be_continuous(tmp_path):
    with pytest.raises(DatasetError, match="categorical for text"):
        read_factors(write(tmp_path / "a.h5", np.array([b"a", b"b"]), kinds=["continuous"]))


@pytest.mark.parametrize("dtype", ["S8", object])
def test_words_are_categories_and_empty_ones_missing(tmp_path, dtype):
    factors = read_factors(write(tmp_path / "a.h5", np.array([b"square", b"", b"circle", b"square"], dtype)))
    np.testing.assert_array_equal(factors.values[:, 0], [1, np.nan, 0, 1])
    assert (factors.kinds, factors.declared) == (("categorical",), (False,))


def test_truth_values_are_categories(tmp_path):
    factors = read_factors(write(tmp_path / "a.h5", np.array([True, False, True])))
    assert factors.kinds == ("categorical",)
    np.testing.assert_array_equal(factors.values[:, 0], [1, 0, 1])


def test_fields_of_a_compound_are_factors(tmp_path):
    rows = np.array([(b"cat", 0.5, True), (b"ant", 0.25, False)], dtype=[("kind", "S3"), ("size", "f4"), ("lit", "?")])
    factors = read_factors(write(tmp_path / "a.h5", rows, names=["ignored"]))
    assert factors.names == ("kind", "size", "lit")
    assert factors.kinds == ("categorical", "continuous", "categorical")
    np.testing.assert_array_equal(factors.values, [[1, 0.5, 1], [0, 0.25, 0]])


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((3, 4, 4)),
        np.zeros(3, complex),
        np.float64(3),
        np.zeros((3, 0)),
        np.zeros(3, [("a", "f8", (2,))]),
        np.zeros((3, 2), [("a", "f8")]),
    ],
)
def test_what_is_no_table_of_labels(tmp_path, data):
    assert read_factors(write(tmp_path / "a.h5", data)) is None


def test_lists_are_no_labels(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        labels = file.create_dataset("labels", (2,), dtype=h5py.vlen_dtype(np.float64))
        labels[0] = [1.0, 2.0]
    assert read_factors(tmp_path / "a.h5") is None


def test_dsprites_as_hdf5(tmp_path):
    values = dsprites_values()
    write(tmp_path / "a.h5", values.astype(np.int64), "latents/classes")
    factors = read_factors(write(tmp_path / "a.h5", values, "latents/values"))
    assert (factors.names, factors.kinds) == (DSPRITES, DSPRITES_KINDS)
    assert all(factors.declared)
    np.testing.assert_array_equal(factors.values, values)


def test_dsprites_as_npz(tmp_path):
    values = dsprites_values()
    metadata = np.array({"author": "pickled"}, dtype=object)
    np.savez_compressed(tmp_path / "a.npz", latents_values=values, metadata=metadata, imgs=np.zeros((2, 2), np.uint8))
    factors = read_factors(tmp_path / "a.npz", rows=len(values))
    assert (factors.names, factors.kinds) == (DSPRITES, DSPRITES_KINDS)
    np.testing.assert_array_equal(factors.values, values)


def test_3dshapes_is_known_by_its_values(tmp_path):
    axes = (np.arange(10) / 10, [0.1, 0.9], [0.5], np.linspace(0.75, 1.25, 8), range(4), np.linspace(-30, 30, 15))
    values = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 6)
    factors = read_factors(write(tmp_path / "a.h5", values))
    assert factors.names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert factors.kinds == ("circular",) * 3 + ("continuous", "categorical", "continuous")
    values[:, 4] += 1
    other = read_factors(write(tmp_path / "b.h5", values))
    assert other.names[0] == "factor 1"


def test_labels_of_another_number_of_images(tmp_path):
    path = write(tmp_path / "a.h5", np.arange(5))
    with pytest.raises(DatasetError, match="expected 6 rows, one an image, found 5 rows"):
        read_factors(path, rows=6)


def test_too_many_columns(tmp_path):
    with pytest.raises(DatasetError, match="at most 100 columns"):
        read_factors(write(tmp_path / "a.h5", np.zeros((2, 101))))


def test_a_shape_that_is_not_stored_is_refused_before_it_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("labels", (2**40, 5), np.float64, chunks=(1024, 5))
    with pytest.raises(DatasetError, match="not of these images"):
        read_factors(tmp_path / "a.h5", rows=10)


def test_labels_outside_the_file_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["labels"] = h5py.ExternalLink("b.h5", "labels")
    with pytest.raises(DatasetError, match="not stored in the file itself"):
        read_factors(tmp_path / "a.h5")


def damaged(kind, path):
    if kind == "no zip":
        path.write_bytes(b"PK\x03\x04 nothing")
    elif kind == "other arrays":
        np.savez(path, images=np.zeros(3))
    elif kind == "pickled":
        np.savez(path, latents_values=np.array([[object()]], dtype=object))
    elif kind == "one axis":
        np.savez(path, latents_values=np.zeros(4))
    else:
        np.savez_compressed(path, latents_values=np.random.default_rng(0).random((50, 6)))
        content = bytearray(path.read_bytes())
        if kind == "bytes":
            content[500:900] = bytes(400)
        path.write_bytes(content[: len(content) // 2] if kind == "half" else content)


@pytest.mark.parametrize("kind", ["no zip", "other arrays", "pickled", "one axis", "bytes", "half"])
def test_damaged_npz_files(tmp_path, kind):
    damaged(kind, tmp_path / "a.npz")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_factors(tmp_path / "a.npz")


def test_an_npz_whose_header_lies(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 6)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("latents_values.npy", header.getvalue() + bytes(480))
    with pytest.raises(DatasetError, match=r"latents_values of shape \(10000000000000, 6\) in 608 bytes"):
        read_factors(tmp_path / "a.npz")


def test_names_of_classes_are_those_of_text(tmp_path):
    kinds = ["round", "long", "", "caf\u00e9", "<b>", "long"]
    table = np.array(
        [(kind.encode(), k % 2 == 0, k) for k, kind in enumerate(kinds)],
        [("kind", "S8"), ("truth", bool), ("number", int)],
    )
    factors = read_factors(write(tmp_path / "a.h5", table))
    assert factors.classes == (("<b>", "caf\u00e9", "long", "round"), None, None)
    np.testing.assert_array_equal(factors.values[:, 0], [3, 2, np.nan, 1, 0, 2])
    assert factors.take(np.array([1, 0])).classes == factors.classes
    assert factors.columns([2, 0]).classes == (None, factors.classes[0])


@pytest.mark.parametrize(
    ("texts", "kept"),
    [([f"{k:04d}" for k in range(1000)], 1000), ([f"{k:04d}" for k in range(1001)], 0), (["a", "b" * 2**16], 0)],
)
def test_names_of_too_many_classes_or_too_long_ones_are_left_out(tmp_path, texts, kept):
    factors = read_factors(write(tmp_path / "a.h5", np.array(texts, "S")))
    assert len(factors.classes[0]) == kept
    assert factors.values[:, 0].tolist() == list(range(len(texts)))
