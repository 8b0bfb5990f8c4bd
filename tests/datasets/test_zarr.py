"""Images in Zarr stores of both versions, good, damaged and hostile."""

import json
import shutil

import numpy as np
import pytest
from dataset_contract import DatasetContract

from ngvae_tools.datasets import open_dataset
from ngvae_tools.datasets.zarr_store import ZarrImages
from ngvae_tools.errors import DatasetError, MissingDependencyError

zarr = pytest.importorskip("zarr")

RNG = np.random.default_rng(5)


def write(path, data, key=None, version=3, **options):
    options = {"chunks": (2, *data.shape[1:])} | options
    if key is None:
        zarr.create_array(str(path), data=data, zarr_format=version, **options)
    else:
        zarr.open_group(str(path), mode="a", zarr_format=version).create_array(key, data=data, **options)
    return path


class ZarrContract(DatasetContract):
    @pytest.fixture
    def data(self):
        data = RNG.random((7, 5, 4, 2)).astype(np.float32)
        data[2, 0, 0, 1] = np.nan
        data[6, 4, 3, 0] = np.inf
        return data

    @pytest.fixture
    def dataset(self, path):
        with open_dataset(path) as dataset:
            assert isinstance(dataset, ZarrImages)
            assert dataset.factors() is None
            yield dataset

    @pytest.fixture
    def good(self, data):
        return [0, 1, 3, 4, 5], data[[0, 1, 3, 4, 5]]

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


class TestVersion3Contract(ZarrContract):
    @pytest.fixture
    def path(self, tmp_path, data):
        return write(tmp_path / "a.zarr", data)


class TestVersion2Contract(ZarrContract):
    @pytest.fixture
    def path(self, tmp_path, data):
        return write(tmp_path / "a", data, version=2)


class TestShardsContract(ZarrContract):
    @pytest.fixture
    def path(self, tmp_path, data):
        return write(tmp_path / "a.zarr", data, key="imgs", shards=(4, 5, 4, 2))


class TestDamagedContract(DatasetContract):
    @pytest.fixture
    def data(self):
        return RNG.integers(0, 65535, (9, 4, 4)).astype(np.uint16)

    @pytest.fixture
    def path(self, tmp_path, data):
        write(tmp_path / "a.zarr", data)
        (tmp_path / "a.zarr" / "c" / "1" / "0" / "0").write_bytes(b"\xff" * 40)
        return tmp_path / "a.zarr"

    @pytest.fixture
    def dataset(self, path):
        with open_dataset(path) as dataset:
            assert dataset.chunk_rows == 2
            yield dataset

    @pytest.fixture
    def good(self, data):
        kept = [0, 1, 4, 5, 6, 7, 8]
        return kept, data[kept][..., None]

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("key", ["images", "imgs", "x", "data", "train/faces"])
def test_keys_of_groups(tmp_path, version, key):
    data = RNG.integers(0, 255, (5, 4, 4, 3)).astype(np.uint8)
    path = write(tmp_path / "a.zarr", data, key=key, version=version)
    write(path, np.arange(5), key="labels", version=version)
    given = key if "/" in key else None
    with open_dataset(path, dataset_key=given) as dataset:
        assert dataset.key == key
        np.testing.assert_array_equal(dataset.read(1, 4)[0].images, data[1:4])
    with pytest.raises(DatasetError, match=r"labels \(5,\) int64.*--dataset-key"):
        open_dataset(path, dataset_key="nothing")


def test_an_array_alone_has_no_keys(tmp_path):
    path = write(tmp_path / "a.zarr", np.zeros((5, 4, 4), np.uint8) + np.uint8(1))
    with pytest.raises(DatasetError, match="leave --dataset-key out"):
        open_dataset(path, dataset_key="images")


@pytest.mark.parametrize("key", ["../other", "/../other", ".", ""])
def test_keys_do_not_lead_outside(tmp_path, key):
    write(tmp_path / "other", np.ones((5, 4, 4), np.uint8))
    path = write(tmp_path / "a.zarr", np.arange(3), key="labels")
    with pytest.raises(DatasetError):
        open_dataset(path, dataset_key=key)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.ones((3, 4, 4), np.int32), "int32"),
        (np.ones((3, 3, 8, 8), np.uint8), "channels first"),
        (np.ones((3, 4), np.uint8), "N, H, W"),
    ],
)
def test_arrays_that_hold_no_images(tmp_path, data, words):
    with pytest.raises(DatasetError, match=words):
        open_dataset(write(tmp_path / "a.zarr", data))


def test_a_huge_array_that_was_never_written(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(10**12, 64, 64), dtype="uint8", chunks=(100, 64, 64))
    with pytest.raises(DatasetError, match="none of it ever written"):
        open_dataset(tmp_path / "a.zarr")


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_codecs_that_run_what_they_read_are_refused(tmp_path, place):
    path = write(tmp_path / "a.zarr", np.ones((3, 4, 4), np.uint8), version=2)
    about = json.loads((path / ".zarray").read_text())
    codec = {"id": "pickle", "protocol": 5}
    about[place] = [codec] if place == "filters" else codec
    (path / ".zarray").write_text(json.dumps(about))
    with pytest.raises(DatasetError, match="pickle"):
        open_dataset(path)


def test_fortran_order_and_big_endian(tmp_path):
    data = RNG.integers(0, 65535, (5, 4, 6)).astype(">u2")
    with open_dataset(write(tmp_path / "a", data, version=2, order="F")) as dataset:
        assert dataset.dtype == np.uint16
        np.testing.assert_array_equal(dataset.read(0, 5)[0].images[..., 0], data)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"zarr_format": 9}', "[]"])
def test_damaged_metadata(tmp_path, content):
    path = write(tmp_path / "a.zarr", np.ones((3, 4, 4), np.uint8))
    (path / "zarr.json").write_text(content)
    with pytest.raises(DatasetError, match=r"Zarr|no array"):
        open_dataset(path)


def test_a_store_that_goes_is_rejected_or_blank(tmp_path):
    path = write(tmp_path / "a.zarr", np.ones((3, 4, 4), np.uint8))
    with open_dataset(path) as dataset:
        dataset.read(0, 1)
        dataset.close()
        shutil.rmtree(path)
        with pytest.raises(DatasetError, match="Zarr"):
            dataset.read(0, 3)


def test_without_zarr_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zarr", np.ones((3, 4, 4), np.uint8))
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(MissingDependencyError, match=r"ngvae-tools\[zarr\]"):
        open_dataset(path)
