"""Images in .npy files, good, cut and lying."""

import io

import numpy as np
import pytest
from dataset_contract import DatasetContract

from ngvae_tools.datasets import NpyImages, open_dataset
from ngvae_tools.errors import DatasetError, OptionError

RNG = np.random.default_rng(2)


class TestNpyContract(DatasetContract):
    @pytest.fixture
    def path(self, tmp_path):
        data = RNG.random((7, 5, 4, 2)).astype(">f4")
        data[2, 0, 0, 1] = np.nan
        data[6, 4, 3, 0] = np.inf
        np.save(tmp_path / "a.npy", data)
        return tmp_path / "a.npy"

    @pytest.fixture
    def dataset(self, path):
        with open_dataset(path) as dataset:
            assert isinstance(dataset, NpyImages)
            assert dataset.factors() is None
            yield dataset

    @pytest.fixture
    def good(self, path):
        return [0, 1, 3, 4, 5], np.load(path)[[0, 1, 3, 4, 5]].astype(np.float32)

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_images_of_both_headers(tmp_path, version, dtype):
    data = RNG.integers(0, 255, (5, 6, 7)).astype(dtype)
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, data, version=version)
    with open_dataset(tmp_path / "a.npy") as dataset:
        assert (dataset.image_shape, dataset.dtype) == ((6, 7, 1), dtype)
        np.testing.assert_array_equal(dataset.read(1, 4)[0].images[..., 0], data[1:4])
    with open_dataset(tmp_path / "a.npy", image_shape=(8, 8, 1), resize="pad") as dataset:
        assert dataset.read(0, 5)[0].images.shape == (5, 8, 8, 1)


def test_a_file_that_is_cut_names_both_lengths(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 6, 7), np.uint8))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    with pytest.raises(DatasetError, match=f"expected {len(whole)} bytes .* found {len(whole) - 1}"):
        open_dataset(tmp_path / "a.npy")


def test_rows_that_are_cut_off_later_are_rejected(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((5, 6, 7), np.uint8))
    with open_dataset(tmp_path / "a.npy") as dataset:
        whole = (tmp_path / "a.npy").read_bytes()
        (tmp_path / "a.npy").write_bytes(whole[:-43])
        samples, rejections = dataset.read(0, 5)
    assert samples.index.tolist() == [0, 1, 2]
    assert [r.index for r in rejections] == [3, 4]
    assert "ends after" in rejections[0].reason


@pytest.mark.parametrize(
    ("descr", "shape", "fortran", "words"),
    [
        ("|u1", (10**12, 64, 64, 3), False, "copy the file again"),
        ("|u1", (-1, 4, 4), False, "numpy.save"),
        ("|u1", (5, 4, 4), True, "ascontiguousarray"),
        ("<f8", (5, 4, 4), False, "float64"),
        ("|O", (5, 4, 4), False, "numpy.save"),
        ("|u1", (80,), False, "N, H, W"),
        ("|u1", (0, 4, 4), False, "no image"),
    ],
)
def test_headers_that_lie(tmp_path, descr, shape, fortran, words):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": fortran, "shape": shape})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(800))
    with pytest.raises(DatasetError, match=words):
        open_dataset(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"\x93NUMPY\x09\x00\x10\x00" + b"x" * 64]
)
def test_headers_that_cannot_be_read(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DatasetError, match="undamaged"):
        open_dataset(tmp_path / "a.npy")


def test_pickled_images_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.save(tmp_path / "a.npy", np.array([[[Trap()]]], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "a.npy")


def test_it_has_no_keys(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 6, 7), np.uint8))
    with pytest.raises(OptionError, match="leave --dataset-key out"):
        open_dataset(tmp_path / "a.npy", dataset_key="x")
