"""Published data sets as their authors store them: written here byte by byte, a few values a factor."""

import gzip
import io
import itertools
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from dataset_contract import DatasetContract
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from ngvae_tools.datasets import (
    Cars3DImages,
    FolderImages,
    HDF5Images,
    NpzImages,
    SmallNORBImages,
    inflating,
    open_dataset,
    read_factors,
)
from ngvae_tools.datasets.inflating import GZIP, RAW, DeflatedBytes, TruncatedError
from ngvae_tools.errors import DatasetError, OptionError
from ngvae_tools.workflows.supervised import open_labels

RNG = np.random.default_rng(3)


# --- dSprites -------------------------------------------------------------------------------------------------------

AXES = ([1.0], [1.0, 2.0, 3.0], np.linspace(0.5, 1, 2), np.linspace(0, 2 * np.pi, 5), [0.0, 0.5, 1.0], [0.0, 1.0])
VALUES = np.stack(np.meshgrid(*AXES, indexing="ij"), axis=-1).reshape(-1, 6)
CLASSES = np.stack(np.meshgrid(*(np.arange(len(a)) for a in AXES), indexing="ij"), axis=-1).reshape(-1, 6)


def dsprites(path, size=16):
    """imgs, latents_values, latents_classes and a pickled metadata, deflated, as numpy.savez_compressed leaves them."""
    binary = RNG.integers(0, 2, (len(VALUES), size, size)).astype(np.uint8)
    metadata = np.array({"latents_sizes": [1, 3, 2, 5, 3, 2], "author": "pickled"}, dtype=object)
    np.savez_compressed(path, metadata=metadata, imgs=binary, latents_classes=CLASSES, latents_values=VALUES)
    return 255 * binary[..., None]


class TestDSpritesContract(DatasetContract):
    spotless = True  # a zip file that is cut has no directory, and one that is damaged is refused

    @pytest.fixture
    def path(self, tmp_path):
        self.images = dsprites(tmp_path / "dsprites.npz")
        return tmp_path / "dsprites.npz"

    @pytest.fixture
    def dataset(self, path):
        with open_dataset(path) as dataset:
            assert isinstance(dataset, NpzImages)
            yield dataset

    @pytest.fixture
    def good(self, path):
        return np.arange(len(VALUES)), self.images

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


@pytest.mark.parametrize("byte", [0, 255])
def test_damaged_dsprites_are_refused(tmp_path, byte):
    dsprites(tmp_path / "d.npz")
    with zipfile.ZipFile(tmp_path / "d.npz") as archive:
        info = archive.getinfo("imgs.npy")
    content = bytearray((tmp_path / "d.npz").read_bytes())
    middle = info.header_offset + info.compress_size // 2
    content[middle : middle + 50] = bytes([byte]) * 50
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DatasetError, match="undamaged array imgs"):
        open_dataset(tmp_path / "d.npz")


def test_dsprites(tmp_path):
    path = tmp_path / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    images = dsprites(path)
    with open_dataset(path) as dataset:
        np.testing.assert_array_equal(dataset.read(0, len(dataset))[0].images, images)
        factors = dataset.factors()
        labels = open_labels("auto", dataset)
        named = open_labels(path, dataset)
    assert factors.names == ("color", "shape", "scale", "orientation", "posX", "posY")
    for found in (factors, read_factors(path), labels.factors, named.factors):
        np.testing.assert_array_equal(found.values, VALUES)
    assert labels.index.tolist() == list(range(len(VALUES)))
    assert factors.kinds[2:4] == ("categorical", "circular")
    # Colour 0, shape 1 or 2, scale 1, orientation 2, x and y 1 each.
    assert factors.intrinsic_interval() == (6, 7)


def test_dsprites_as_hdf5_becomes_0_and_255(tmp_path):
    binary = RNG.integers(0, 2, (len(VALUES), 8, 8)).astype(np.uint8)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["imgs"], file["latents/values"] = binary, VALUES
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["imgs"] = binary
    with open_dataset(tmp_path / "d.h5") as dataset, open_dataset(tmp_path / "other.h5") as other:
        np.testing.assert_array_equal(dataset.read(0, len(VALUES))[0].images[..., 0], 255 * binary)
        np.testing.assert_array_equal(other.read(0, len(VALUES))[0].images[..., 0], binary)
        assert dataset.factors().intrinsic_interval() == (6, 7)


def test_dsprites_in_grey_values_stays(tmp_path):
    grey = RNG.integers(0, 256, (len(VALUES), 8, 8)).astype(np.uint8)
    np.savez_compressed(tmp_path / "d.npz", imgs=grey, latents_values=VALUES)
    with open_dataset(tmp_path / "d.npz") as dataset:
        np.testing.assert_array_equal(dataset.read(0, len(VALUES))[0].images[..., 0], grey)


# --- MPI3D ----------------------------------------------------------------------------------------------------------

MPI3D = (2, 3, 2, 3, 3, 4, 5)


def mpi3d_images(sizes=MPI3D):
    n = int(np.prod(sizes))
    return np.random.default_rng(0).integers(0, 256, (n, 2, 2, 3)).astype(np.uint8)


class TestMPI3DContract(DatasetContract):
    spotless = True  # a plain zip file without all of its rows has no directory either

    @pytest.fixture
    def path(self, tmp_path):
        np.savez(tmp_path / "mpi3d_toy.npz", images=mpi3d_images().reshape(*MPI3D, 2, 2, 3))
        return tmp_path / "mpi3d_toy.npz"

    @pytest.fixture
    def dataset(self, path):
        with open_dataset(path) as dataset:
            yield dataset

    @pytest.fixture
    def good(self, path):
        return np.arange(np.prod(MPI3D)), mpi3d_images()

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


def mpi3d_number(colour, shape, size, height, background, horizontal, vertical, *, colours, shapes):
    """The number of an image by the formula of its authors (for four colours and shapes)."""
    assert (colours, shapes) == (4, 4)
    return (
        colour * 115200 + shape * 28800 + size * 14400 + height * 4800 + background * 1600 + horizontal * 40 + vertical
    )


@pytest.mark.parametrize(("count", "interval"), [(460_800, (7, 12)), (1_036_800, (7, 16))])
@pytest.mark.parametrize("form", ["npz", "h5"])
def test_mpi3d_is_known_by_its_number_of_images(tmp_path, count, interval, form):
    images = np.zeros((count, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(count) % 251
    path = tmp_path / f"mpi3d.{form}"
    if form == "npz":
        np.savez(path, images=images)
    else:
        with h5py.File(path, "w") as file:
            file["images"] = images
    with open_dataset(path) as dataset:
        assert isinstance(dataset, NpzImages if form == "npz" else HDF5Images)
        factors = dataset.factors()
        rows = dataset.read(count - 5, count)[0].images
        np.testing.assert_array_equal(rows, images[-5:])
    assert read_factors(path, rows=count).names == factors.names
    assert factors.intrinsic_interval() == interval
    if count == 460_800:
        for row in (0, 41, 12_345, 460_799):
            assert mpi3d_number(*factors.values[row], colours=4, shapes=4) == row
    else:
        assert factors.values.max(0).tolist() == [5, 5, 1, 2, 2, 39, 39]


def test_other_archives_of_images_have_no_factors(tmp_path):
    np.savez(tmp_path / "a.npz", images=mpi3d_images(), other=np.zeros((600, 3, 3), np.uint8))
    with open_dataset(tmp_path / "a.npz") as dataset:
        assert dataset.factors() is None
        assert open_labels("auto", dataset) is None
    with open_dataset(tmp_path / "a.npz", dataset_key="other") as dataset:
        assert (len(dataset), dataset.image_shape) == (600, (3, 3, 1))
    with pytest.raises(DatasetError, match="found images, other"):
        open_dataset(tmp_path / "a.npz", dataset_key="nothing")


@pytest.mark.parametrize("savez", [np.savez, np.savez_compressed])
def test_both_forms_of_npz_are_read_alike(tmp_path, savez):
    images = RNG.random((50, 6, 5, 2)).astype(">f4")
    savez(tmp_path / "a.npz", x=images)
    with open_dataset(tmp_path / "a.npz", image_shape=(8, 8, 2), resize="stretch") as dataset:
        assert dataset.dtype == np.float32
        whole = dataset.read(0, 50)[0].images
        assert whole.shape == (50, 8, 8, 2)
        np.testing.assert_array_equal(dataset.read(17, 31)[0].images, whole[17:31])


# --- SmallNORB ------------------------------------------------------------------------------------------------------

BYTE_MATRIX, INTEGER_MATRIX = 0x1E3D4C55, 0x1E3D4C54


def matrix(path, array):
    magic = {1: BYTE_MATRIX, 4: INTEGER_MATRIX}[array.dtype.itemsize]
    sizes = array.shape + (1,) * (3 - array.ndim)
    head = struct.pack(f"<Ii{len(sizes)}i", magic, array.ndim, *sizes)
    content = head + array.astype(array.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def smallnorb(folder, chunk="5x46789x9x18x6x2x96x96-training", packed=False, instances=(4, 6)):
    grid = list(itertools.product(range(2), instances, (0, 8), (0, 10, 20, 34), range(2)))
    pairs = RNG.integers(0, 256, (len(grid), 2, 12, 12)).astype(np.uint8)
    end = ".gz" if packed else ""
    matrix(folder / f"smallnorb-{chunk}-dat.mat{end}", pairs)
    matrix(folder / f"smallnorb-{chunk}-cat.mat{end}", np.array([g[0] for g in grid], np.int32))
    matrix(folder / f"smallnorb-{chunk}-info.mat{end}", np.array([g[1:] for g in grid], np.int32))
    return pairs[:, 0, :, :, None], np.array(grid, float)


class TestSmallNORBContract(DatasetContract):
    @pytest.fixture
    def path(self, tmp_path):
        self.images, _ = smallnorb(tmp_path, packed=True)
        path = next(tmp_path.glob("*-dat.mat.gz"))
        path.write_bytes(path.read_bytes()[:-3000])
        return tmp_path

    @pytest.fixture
    def dataset(self, path):
        with open_dataset(path) as dataset:
            assert isinstance(dataset, SmallNORBImages)
            yield dataset

    @pytest.fixture
    def good(self, path):
        kept = np.arange((len(self.images) * 288 - 3000) // 288)
        return kept, self.images[kept]

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


@pytest.mark.parametrize("packed", [False, True])
def test_smallnorb(tmp_path, packed):
    two = smallnorb(tmp_path, packed=packed)
    one = smallnorb(tmp_path, "5x01235x9x18x6x2x96x96-testing", packed=packed, instances=(0, 1, 2))
    with open_dataset(tmp_path) as dataset:
        assert dataset.kind == "smallnorb"
        images = np.concatenate([one[0], two[0]])
        np.testing.assert_array_equal(dataset.read(0, len(images))[0].images, images)
        boundary = len(one[0])
        np.testing.assert_array_equal(
            dataset.read(boundary - 3, boundary + 3)[0].images, images[boundary - 3 : boundary + 3]
        )
        factors = open_labels("auto", dataset).factors
    grid = np.concatenate([one[1], two[1]])[:, [0, 2, 3, 4]]  # the instance is no factor
    np.testing.assert_array_equal(factors.values, grid * [1, 5, 10, 1] + [0, 30, 0, 0])
    assert factors.names == ("category", "elevation", "azimuth", "lighting")
    assert factors.kinds[1:3] == ("continuous", "circular")
    # Two categories 1, two elevations 1, four azimuths 2, two lights 1.
    assert factors.intrinsic_interval() == (5, 5)
    file = next(tmp_path.glob("*testing-dat.mat*"))
    with open_dataset(file) as dataset:
        assert len(dataset) == boundary


def test_smallnorb_that_is_unpacked_beside_its_archive_counts_once(tmp_path):
    smallnorb(tmp_path, packed=True)
    _, grid = smallnorb(tmp_path)
    with open_dataset(tmp_path) as dataset:
        assert len(dataset) == len(grid)


@pytest.mark.parametrize("fault", ["alone", "short", "rows", "type", "axes", "claims", "damaged"])
def test_smallnorb_that_does_not_fit(tmp_path, fault):
    _, grid = smallnorb(tmp_path)
    dat, cat = next(tmp_path.glob("*-dat.mat")), next(tmp_path.glob("*-cat.mat"))
    if fault == "alone":
        cat.unlink()
    elif fault == "short":
        dat.write_bytes(dat.read_bytes()[:-1])
    elif fault == "rows":
        matrix(cat, np.zeros(len(grid) - 1, np.int32))
    elif fault == "type":
        matrix(cat, np.zeros(len(grid), np.uint8))
    elif fault == "axes":
        matrix(dat, np.zeros((3, 3, 4), np.uint8))
    elif fault == "damaged":
        packed = bytearray(gzip.compress(dat.read_bytes()))
        packed[len(packed) // 2] ^= 1
        dat.with_name(f"{dat.name}.gz").write_bytes(packed)
        dat.unlink()
    else:
        packed = dat.with_name(f"{dat.name}.gz")
        packed.write_bytes(gzip.compress(struct.pack("<Ii4i", BYTE_MATRIX, 4, 2**30, 2, 96, 96)))
        dat.unlink()
    with pytest.raises(DatasetError):
        open_dataset(tmp_path)


# --- Cars3D ---------------------------------------------------------------------------------------------------------

AZIMUTHS, ELEVATIONS = 6, 4


def cars3d(folder, count=3, compress=True):
    """A file a car with `im` (H, W, 3, azimuths, elevations); returns all as (cars, azimuths, elevations, H, W, 3)."""
    folder.mkdir(parents=True, exist_ok=True)
    cars = RNG.integers(0, 256, (count, 9, 8, 3, AZIMUTHS, ELEVATIONS)).astype(np.uint8)
    for k, car in enumerate(cars):
        savemat(folder / f"car_{k:03d}_mesh.mat", {"im": car, "other": np.arange(3.0)}, do_compression=compress)
    return cars.transpose(0, 4, 5, 1, 2, 3)


class TestCars3DContract(DatasetContract):
    @pytest.fixture
    def path(self, tmp_path):
        self.images = cars3d(tmp_path)
        path = tmp_path / "car_000_mesh.mat"
        path.write_bytes(path.read_bytes()[:900])
        return tmp_path

    @pytest.fixture
    def dataset(self, path):
        with open_dataset(path) as dataset:
            assert isinstance(dataset, Cars3DImages)
            yield dataset

    @pytest.fixture
    def good(self, path):
        per_car = AZIMUTHS * ELEVATIONS
        return np.arange(per_car, 3 * per_car), self.images[1:].reshape(-1, 9, 8, 3)

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


@pytest.mark.parametrize("where", ["here", "cars", "data/cars", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("compress", [True, False])
def test_cars3d(tmp_path, where, compress):
    folder = tmp_path / "x" / ("cars" if "tar" in where else "" if where == "here" else where)
    images = cars3d(folder, compress=compress)
    path = tmp_path / "x"
    if "tar" in where:
        (folder.parent / "sprites").mkdir()
        savemat(folder.parent / "sprites" / "sprite_1.mat", {"sprites": np.zeros(3)})
        path = tmp_path / where
        with tarfile.open(path, "w:gz" if where.endswith("gz") else "w") as archive:
            archive.add(folder.parent, "data")
    with open_dataset(path) as dataset:
        assert dataset.kind == "cars3d"
        np.testing.assert_array_equal(dataset.read(0, len(dataset))[0].images, images.reshape(-1, 9, 8, 3))
        factors = open_labels("auto", dataset).factors
        found = dataset.read(20, 60)[0].images
    np.testing.assert_array_equal(found, images.reshape(-1, 9, 8, 3)[20:60])
    elevation, azimuth, car = factors.values[30].astype(int)
    np.testing.assert_array_equal(found[10], images[car, azimuth // 60, elevation])
    assert factors.kinds == ("continuous", "circular", "categorical")
    assert factors.intrinsic_interval() == (4, 5)
    with open_dataset(path, image_shape=(16, 16, 3), resize="pad") as dataset:
        assert dataset.read(0, 3)[0].images.shape == (3, 16, 16, 3)


def test_a_folder_of_images_beside_a_matlab_file_stays_one(tmp_path, as_pngs):
    folder = as_pngs(tmp_path / "d", RNG.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    savemat(folder / "annotations.mat", {"boxes": np.zeros((3, 4))})
    (folder / "cars").mkdir()
    with open_dataset(folder) as dataset:
        assert isinstance(dataset, FolderImages)
        assert len(dataset) == 3


def test_a_car_of_another_size_and_one_that_is_no_file_of_matlab_are_rejected(tmp_path):
    cars3d(tmp_path, 2)
    savemat(tmp_path / "z1.mat", {"im": np.zeros((5, 5, 3, AZIMUTHS, ELEVATIONS), np.uint8)})
    savemat(tmp_path / "z2.mat", {"im": np.zeros((9, 8, 3, AZIMUTHS, ELEVATIONS))})
    savemat(tmp_path / "z3.mat", {"im": np.array({"a": 1}, dtype=object)})
    (tmp_path / "z4.mat").write_bytes(b"MATLAB 5.0" + bytes(200))
    (tmp_path / "z5.mat").write_bytes(b"")
    with open_dataset(tmp_path) as dataset:
        samples, rejected = dataset.read(0, len(dataset))
    per_car = AZIMUTHS * ELEVATIONS
    assert len(samples) == 2 * per_car
    assert {r.index // per_car for r in rejected} == {2, 3, 4, 5, 6}
    assert "z2.mat" in rejected[per_car].reason
    assert "float64" in rejected[per_car].reason


def test_a_car_that_inflates_to_much_more_is_not_held(tmp_path):
    cars3d(tmp_path, 1)
    content = (tmp_path / "car_000_mesh.mat").read_bytes()[:128]
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()
    (tmp_path / "z.mat").write_bytes(content + struct.pack("<II", 15, len(packed)) + packed)
    with open_dataset(tmp_path) as dataset:
        tracemalloc.start()
        _, rejected = dataset.read(24, 25)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "when inflated" in rejected[0].reason
    assert peak < 200 * 2**20


# --- Untrusted files ------------------------------------------------------------------------------------------------


def lying_npz(path, shape, content=b"", descr="|u1", method=zipfile.ZIP_STORED, fortran=False):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": fortran, "shape": shape})
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("images.npy", header.getvalue() + content)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        {"shape": (10**12, 64, 64, 3)},
        {"shape": (-1, 64, 64, 3), "content": bytes(100)},
        {"shape": (10**9, 1, 1), "content": bytes(100), "method": zipfile.ZIP_DEFLATED},
        {"shape": (4, 5, 5), "content": bytes(100), "fortran": True},
        {"shape": (4, 5, 5), "content": bytes(100), "method": zipfile.ZIP_BZIP2},
        {"shape": (0, 5, 5)},
        {"shape": (100,), "content": bytes(100)},
        {"shape": (), "content": bytes(1)},
        {"shape": (4, 5, 5), "content": bytes(800), "descr": "|O"},
        {"shape": (4, 5, 5), "content": bytes(800), "descr": "<f8"},
    ],
)
def test_arrays_that_are_not_what_they_claim(tmp_path, arguments):
    with pytest.raises(DatasetError):
        open_dataset(lying_npz(tmp_path / "a.npz", **arguments))


def test_pickled_images_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.savez(tmp_path / "a.npz", images=np.array([[[Trap()]]], dtype=object))
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"PK\x03\x04 nothing", b"PK", b"\x1f\x8b nothing", b"", b"\x55\x4c\x3d\x1e"])
def test_files_that_only_begin_like_one(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "a")


def test_a_key_is_for_files_that_have_some(tmp_path):
    cars3d(tmp_path)
    with pytest.raises(OptionError, match="leave --dataset-key out"):
        open_dataset(tmp_path, dataset_key="im")


# --- Inflating at any place -----------------------------------------------------------------------------------------


SHORT = 2**16
LENGTH = 3 * SHORT + 12_345


@pytest.fixture(autouse=True)
def short_spans(monkeypatch):
    monkeypatch.setattr(inflating, "SPAN", SHORT)


def stream():
    return np.random.default_rng(0).integers(0, 4, LENGTH).astype(np.uint8).tobytes()


@given(reads=st.lists(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reads_in_any_order_give_the_bytes(tmp_path, reads):
    data = stream()
    path = tmp_path / "a.gz"
    if not path.exists():
        path.write_bytes(gzip.compress(data, 1))
    source = DeflatedBytes(path, len(data), form=GZIP)
    for offset, length in reads:
        if offset + length <= len(data):
            assert source.read(offset, length) == data[offset : offset + length]
        else:
            with pytest.raises(TruncatedError):
                source.read(offset, length)
    offset = min(reads[0][0], len(data) - 10)
    assert pickle.loads(pickle.dumps(source)).read(offset, 10) == data[offset : offset + 10]


def test_a_stream_that_is_cut_gives_what_there_is(tmp_path):
    data = stream()
    packed = gzip.compress(data)
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    source = DeflatedBytes(tmp_path / "cut.gz", len(data))
    with pytest.raises(TruncatedError, match="cut short"):
        source.read(3 * SHORT, 10)
    assert source.read(SHORT, 100) == data[SHORT : SHORT + 100]
    assert source.read(0, 100) == data[:100]
    with pytest.raises(TruncatedError):
        DeflatedBytes(tmp_path / "cut.gz", len(data), form=RAW).read(0, 1)


def test_memory_stays_small_beside_the_stream(tmp_path):
    with gzip.open(tmp_path / "zeros.gz", "wb", compresslevel=1) as file:
        for _ in range(96):
            file.write(bytes(2**20))
    tracemalloc.start()
    source = DeflatedBytes(tmp_path / "zeros.gz", 96 * 2**20)
    for offset in range(0, 96 * 2**20, 2**20):
        source.read(offset, 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20  # 1024 places where inflating can begin, the most there are
