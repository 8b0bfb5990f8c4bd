"""HDF5 files of images, good, damaged and hostile."""

import h5py
import numpy as np
import pytest
from dataset_contract import DatasetContract
from PIL import Image

from ngvae_tools.datasets import FolderImages, HDF5Images, open_dataset, read_factors
from ngvae_tools.errors import DatasetError

RNG = np.random.default_rng(1)


def write(path, key="images", data=None, **options):
    data = RNG.integers(0, 255, (6, 5, 4, 3)).astype(np.uint8) if data is None else data
    with h5py.File(path, "a") as file:
        file.create_dataset(key, data=data, **options)
    return data


class TestFloatContract(DatasetContract):
    @pytest.fixture
    def path(self, tmp_path):
        data = RNG.random((7, 5, 4, 2)).astype(">f4")
        data[2, 0, 0, 1] = np.nan
        data[6, 4, 3, 0] = np.inf
        write(tmp_path / "a.h5", data=data, chunks=(2, 5, 2, 2), compression="gzip")
        return tmp_path / "a.h5"

    @pytest.fixture
    def dataset(self, path):
        with HDF5Images(path) as dataset:
            yield dataset

    @pytest.fixture
    def good(self, path):
        with h5py.File(path) as file:
            return [0, 1, 3, 4, 5], file["images"][:][[0, 1, 3, 4, 5]].astype(np.float32)

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


class TestDamagedContract(DatasetContract):
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "a.h5"
        data = RNG.integers(0, 65535, (9, 4, 4, 1)).astype(np.uint16)
        write(path, data=data, chunks=(2, 4, 4, 1), compression="gzip", fletcher32=True)
        with h5py.File(path) as file:
            place = file["images"].id.get_chunk_info(1)
        with path.open("r+b") as file:
            file.seek(place.byte_offset + place.size // 2)
            file.write(b"\xff" * 8)
        self.data = data
        return path

    @pytest.fixture
    def dataset(self, path):
        with HDF5Images(path) as dataset:
            yield dataset

    @pytest.fixture
    def good(self, path):
        kept = [0, 1, 4, 5, 6, 7, 8]
        return kept, self.data[kept]

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


def test_the_same_images_as_folder_and_file_are_equal(tmp_path):
    data = RNG.integers(0, 255, (5, 9, 7, 3)).astype(np.uint8)
    (tmp_path / "folder").mkdir()
    for k, image in enumerate(data):
        Image.fromarray(image).save(tmp_path / "folder" / f"{k}.png")
    write(tmp_path / "a.h5", data=data)
    for options in ({}, *({"image_shape": (6, 6, 3), "resize": how} for how in ("stretch", "crop", "pad"))):
        with (
            open_dataset(tmp_path / "folder", **options) as one,
            open_dataset(tmp_path / "a.h5", **options) as two,
        ):
            assert isinstance(one, FolderImages)
            assert isinstance(two, HDF5Images)
            assert (one.image_shape, one.dtype) == (two.image_shape, two.dtype)
            np.testing.assert_array_equal(one.read(0, 5)[0].images, two.read(0, 5)[0].images)


@pytest.mark.parametrize("key", ["images", "imgs", "x", "data"])
def test_known_keys_are_found(tmp_path, key):
    write(tmp_path / "a.h5", "labels")
    data = write(tmp_path / "a.h5", key, RNG.integers(0, 9, (3, 5, 4)).astype(np.uint8))
    with HDF5Images(tmp_path / "a.h5") as dataset:
        assert dataset.key == key
        assert dataset.image_shape == (5, 4, 1)
        np.testing.assert_array_equal(dataset.read(0, 3)[0].images[..., 0], data)


def test_other_keys_are_listed_and_can_be_named(tmp_path):
    path = tmp_path / "a.h5"
    write(path, "train/faces")
    with pytest.raises(DatasetError, match=r"train/faces \(6, 5, 4, 3\) uint8.*--dataset-key"):
        open_dataset(path)
    with pytest.raises(DatasetError, match="nothing"):
        open_dataset(path, dataset_key="nothing")
    with open_dataset(path, dataset_key="/train/faces") as dataset:
        assert len(dataset) == 6


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), "holds no image"),
        (np.zeros((3, 4, 4, 3), np.int32), "int32"),
        (np.zeros((3, 4, 4, 3), np.float64), "float64"),
        (np.zeros((3, 3, 8, 8), np.uint8), "channels first"),
        (np.zeros((3, 4, 0, 1), np.uint8), "does not hold images"),
        (np.zeros((3, 4), np.uint8), "no dataset of images"),
    ],
)
def test_unusable_datasets_are_errors(tmp_path, data, words):
    write(tmp_path / "a.h5", data=data)
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path / "a.h5")


def test_a_dataset_that_was_never_written_is_an_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (1000, 64, 64, 3), np.uint8, chunks=(10, 64, 64, 3))
    with pytest.raises(DatasetError, match="ever written"):
        open_dataset(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_shape": (5, 5, 3)}, "--resize"),
        ({"image_shape": (5, 4, 1)}, "as many channels"),
        ({"image_shape": (5, 5, 1), "resize": "crop"}, "as many channels"),
        ({"dtype": np.float32}, "store the images as float32, or export .* sample_type='uint8'; nothing is converted"),
    ],
)
def test_what_differs_from_the_expected_is_an_error(tmp_path, options, words):
    write(tmp_path / "a.h5")
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path / "a.h5", **options)


def hostile(kind, folder):
    write(folder / "secret.h5")
    (folder / "raw").write_bytes(bytes(480))
    with h5py.File(folder / "a.h5", "w") as file:
        if kind == "external link":
            file["images"] = h5py.ExternalLink("secret.h5", "images")
        elif kind == "soft link to an external link":
            file["out"] = h5py.ExternalLink("secret.h5", "/")
            file["images"] = h5py.SoftLink("/out/images")
        elif kind == "circle":
            file["images"] = h5py.SoftLink("/x")
            file["x"] = h5py.SoftLink("images")
        elif kind == "external storage":
            file.create_dataset("images", (8, 5, 4, 3), np.uint8, external=[("raw", 0, 480)])
        else:
            layout = h5py.VirtualLayout((6, 5, 4, 3), np.uint8)
            layout[:] = h5py.VirtualSource("secret.h5", "images", (6, 5, 4, 3))
            file.create_virtual_dataset("images", layout)


@pytest.mark.parametrize(
    "kind", ["external link", "soft link to an external link", "circle", "external storage", "virtual"]
)
def test_what_leads_outside_is_refused(tmp_path, kind):
    hostile(kind, tmp_path)
    with pytest.raises(DatasetError, match="not stored in the file itself"):
        open_dataset(tmp_path / "a.h5")


def test_links_inside_the_file_are_followed(tmp_path):
    data = write(tmp_path / "a.h5", "group/real")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["group/images"] = h5py.SoftLink("real")
        file["images"] = h5py.SoftLink("/group/images")
    with open_dataset(tmp_path / "a.h5") as dataset:
        np.testing.assert_array_equal(dataset.read(0, 6)[0].images, data)


def test_damaged_files_are_errors(tmp_path):
    write(tmp_path / "a.h5")
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.h5").write_text("x")
    for name in ("half.h5", "text.h5"):
        with pytest.raises(DatasetError):
            open_dataset(tmp_path / name)


def test_fingerprint_follows_the_rows(tmp_path):
    data = write(tmp_path / "a.h5")
    write(tmp_path / "b.h5", data=data)
    with open_dataset(tmp_path / "a.h5") as one, open_dataset(tmp_path / "b.h5") as two:
        assert one.fingerprint() == two.fingerprint()
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file["images"][3, 0, 0, 0] ^= 1
    with open_dataset(tmp_path / "a.h5") as one, open_dataset(tmp_path / "b.h5") as two:
        assert one.fingerprint() != two.fingerprint()


def test_factors_are_read_with_their_names(tmp_path):
    path = tmp_path / "a.h5"
    write(path)
    assert read_factors(path) is None
    assert read_factors(tmp_path) is None
    write(path, "labels", np.arange(12).reshape(6, 2))
    assert read_factors(path).names == ("factor 1", "factor 2")
    with h5py.File(path, "a") as file:
        file.attrs["factor_names"] = ["a", "b"]
    assert read_factors(path).names == ("a", "b")
    with h5py.File(path, "a") as file:
        file["labels"].attrs["names"] = np.array([b"c", b"d"])
    factors = read_factors(path)
    assert factors.names == ("c", "d")
    assert factors.values.dtype == np.float64
    np.testing.assert_array_equal(factors.values, np.arange(12).reshape(6, 2))


def test_fingerprint_is_of_the_images_not_of_how_they_are_packed(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    prints = []
    for name, options in (("plain", {}), ("packed", {"chunks": (64, 8, 8, 3), "compression": "gzip"})):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("images", data=images, **options)
        with open_dataset(tmp_path / f"{name}.h5") as dataset:
            prints.append(dataset.fingerprint())
    assert prints[0] == prints[1]


@pytest.mark.parametrize("key", ["images", "\udcff"])
def test_a_dataset_without_a_shape_or_with_a_name_that_is_not_utf8(tmp_path, key):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["images"] = h5py.Empty("uint8")
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "d.h5", dataset_key=key)
