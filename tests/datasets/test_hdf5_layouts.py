"""HDF5 layouts read without HDF5: equal to h5py, by threads, in order, whatever the chunks."""

import ctypes
import os
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_contract import DatasetContract
from h5py._objects import phil
from hypothesis import given, settings
from hypothesis import strategies as st

from ngvae_tools.datasets import HDF5Images, chunk_layout, chunked, filters, open_dataset
from ngvae_tools.datasets.chunked import ChunkedRows
from ngvae_tools.datasets.contiguous import ContiguousRows
from ngvae_tools.errors import DatasetError

FILTERS = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "shuffle": {"shuffle": True},
    "shuffle and gzip": {"shuffle": True, "compression": "gzip"},
    "fletcher32": {"fletcher32": True},
    "lzf": {"compression": "lzf"},
    "shuffle, lzf and fletcher32": {"shuffle": True, "compression": "lzf", "fletcher32": True},
    "gzip and fletcher32": {"compression": "gzip", "fletcher32": True},
}


def images(shape, dtype="u1", seed=0):
    """Values in runs, so that they can be compressed."""
    data = np.random.default_rng(seed).integers(0, 9, shape) // 3 * 50
    return data.astype(dtype)


def write(path, data, **options):
    with h5py.File(path, "w", libver=options.pop("libver", None)) as file:
        file.create_dataset("images", data=data, **options)
    return data


def reader(dataset):
    dataset.read(0, 0)
    return dataset._direct


def limit(monkeypatch, size):
    for module in (chunk_layout, chunked):
        monkeypatch.setattr(module, "CACHE_BYTES", size)


LAYOUTS = {
    "contiguous": {"dtype": ">u2"},
    "well chunked": {"chunks": (2, 9, 8, 3), "compression": "gzip"},
    "guessed": {"chunks": (16, 4, 4, 1), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (5, 9, 8, 3), "compression": "lzf"},
    "plain": {"chunks": (3, 4, 8, 2)},
    "compact": {"dcpl": "compact"},
    "scale offset": {"chunks": (4, 9, 8, 3), "scaleoffset": 0},
}


class TestContract(DatasetContract):
    spotless = True

    @pytest.fixture(params=LAYOUTS)
    def path(self, tmp_path, request):
        options = dict(LAYOUTS[request.param])
        self.data = images((23, 9, 8, 3), options.pop("dtype", "u1"))
        with h5py.File(tmp_path / "a.h5", "w") as file:
            if options.pop("dcpl", None):
                plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                plan.set_layout(h5py.h5d.COMPACT)
                made = h5py.h5d.create(
                    file.id, b"images", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(self.data.shape), plan
                )
                h5py.Dataset(made)[...] = self.data
            else:
                file.create_dataset("images", data=self.data, **options)
        return tmp_path / "a.h5"

    @pytest.fixture
    def dataset(self, path):
        with HDF5Images(path) as dataset:
            yield dataset

    @pytest.fixture
    def good(self, path):
        return list(range(23)), self.data.astype(self.data.dtype.newbyteorder("="))

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


@st.composite
def files(draw):
    shape = draw(st.tuples(st.integers(1, 20), st.integers(5, 9), *[st.integers(1, 5)] * 2))
    shape = shape[: draw(st.integers(3, 4))]
    options = dict(draw(st.sampled_from(list(FILTERS.values()))))
    contiguous = not options and draw(st.booleans())
    if not contiguous:
        options["chunks"] = tuple(draw(st.integers(1, n)) for n in shape)
        options["maxshape"] = draw(st.sampled_from([None, (None, *shape[1:]), (None,) * len(shape)]))
    dtype = np.dtype(draw(st.sampled_from(["u1", "<u2", ">u2", "<f4", ">f4"])))
    return {
        "shape": shape,
        "dtype": dtype,
        "fillvalue": draw(st.sampled_from([None, 0, 3])),
        "fill_time": draw(st.sampled_from(["ifset", "alloc", "never"])),
        **options,
        "file": {
            "libver": draw(st.sampled_from(["earliest", "latest"])),
            "userblock_size": draw(st.sampled_from([0, 512])),
        },
        "written": draw(st.lists(st.tuples(*[st.integers(0, n - 1) for n in shape]), min_size=1, max_size=3)),
        "whole": draw(st.booleans()),
        "cache": draw(st.sampled_from([2**30, 3000, 60])),
        "threads": draw(st.sampled_from([1, 4])),
        "step": draw(st.integers(1, 8)),
    }


@given(files())
@settings(max_examples=150, deadline=None)
def test_any_layout_reads_as_h5py_does(tmp_path_factory, plan):
    path = tmp_path_factory.getbasetemp() / "property.h5"
    file_options = plan.pop("file")
    written, whole, cache = plan.pop("written"), plan.pop("whole"), plan.pop("cache")
    threads, step = plan.pop("threads"), plan.pop("step")
    with h5py.File(path, "w", **file_options) as file:
        made = file.create_dataset("images", **plan)
        if whole:
            made[...] = images(plan["shape"], plan["dtype"])
        for corner in written:
            made[tuple(slice(k, k + 2) for k in corner)] = 77
    with h5py.File(path) as file:
        expected = file["images"][...]
    with pytest.MonkeyPatch.context() as patch, HDF5Images(path) as dataset:
        limit(patch, cache)
        length = plan["shape"][0]
        ranges = [(k, min(k + step, length)) for k in range(0, length, step)]
        with ThreadPoolExecutor(threads) as pool:
            parts = [*pool.map(lambda r: dataset.read(*r), ranges)]
        found = np.concatenate([samples.images for samples, _ in parts])
        assert not any(rejections for _, rejections in parts)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        assert found.dtype == plan["dtype"].newbyteorder("=")


@pytest.mark.parametrize("name", FILTERS)
def test_these_are_read_without_hdf5(tmp_path, name):
    write(tmp_path / "a.h5", images((8, 8, 8, 3), ">u2"), chunks=(2, 4, 8, 3), **FILTERS[name])
    with HDF5Images(tmp_path / "a.h5") as dataset:
        assert isinstance(reader(dataset), ChunkedRows)
    write(tmp_path / "b.h5", images((8, 8, 8, 3), ">u2"))
    with HDF5Images(tmp_path / "b.h5") as dataset:
        assert isinstance(reader(dataset), ContiguousRows)


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 4, 8, 3), "compression": "gzip"}])
def test_reading_does_not_wait_for_the_lock_of_hdf5(tmp_path, options):
    data = write(tmp_path / "a.h5", images((8, 8, 8, 3)), **options)
    with HDF5Images(tmp_path / "a.h5") as dataset, ThreadPoolExecutor(1) as pool:
        dataset.read(0, 0)
        with phil:
            samples, _ = pool.submit(dataset.read, 1, 7).result(timeout=20)
        np.testing.assert_array_equal(samples.images, data[1:7])


def counted(monkeypatch):
    calls = []
    decode = filters.Filters.decode

    def note(self, raw, mask, out):
        calls.append(len(raw))
        decode(self, raw, mask, out)

    monkeypatch.setattr(filters.Filters, "decode", note)
    return calls


@pytest.mark.parametrize("threads", [1, 3])
def test_reading_in_order_decodes_each_chunk_once_and_one_row_its_layer(tmp_path, monkeypatch, threads):
    data = write(tmp_path / "a.h5", images((50, 8, 8, 3)), chunks=(20, 4, 4, 1), compression="gzip")
    calls = counted(monkeypatch)
    with HDF5Images(tmp_path / "a.h5") as dataset, ThreadPoolExecutor(threads) as pool:
        assert dataset.chunk_rows == dataset.preferred_rows == 20
        parts = [*pool.map(lambda k: dataset.read(k, min(k + 4, 50))[0].images, range(0, 50, 4))]
        np.testing.assert_array_equal(np.concatenate(parts), data)
        assert len(calls) == 3 * 12
        assert reader(dataset).cache.size == 0
        for row in (33, 34, 27):
            np.testing.assert_array_equal(dataset.read(row, row + 1)[0].images[0], data[row])
        assert len(calls) == 4 * 12
        assert reader(dataset).cache.size == 25 * 192
        dataset.fingerprint()
        assert reader(dataset).cache.size == 0


def test_a_layer_beyond_the_bound_is_kept_in_parts(tmp_path, monkeypatch):
    data = write(tmp_path / "a.h5", images((50, 8, 8, 3)), chunks=(50, 4, 4, 1), compression="gzip")
    limit(monkeypatch, 15 * 192)
    calls = counted(monkeypatch)
    with HDF5Images(tmp_path / "a.h5") as dataset:
        assert dataset.preferred_rows == 10
        assert "decodes each chunk 5 times" in dataset.layout_advice()
        for k in range(0, 50, 2):
            np.testing.assert_array_equal(dataset.read(k, k + 2)[0].images, data[k : k + 2])
            assert reader(dataset).cache.size <= 15 * 192
    assert len(calls) == 5 * 12


@pytest.mark.parametrize("name", ["contiguous", "gzip"])
def test_no_handle_is_left_and_copies_and_children_read(tmp_path, name):
    path = tmp_path / "a.h5"
    options = {} if name == "contiguous" else {"chunks": (4, 8, 8, 3), "compression": "gzip"}
    data = write(path, images((10, 8, 8, 3)), **options)
    dataset = HDF5Images(path)
    dataset.read(0, 3)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.read(3, 7)[0].images, data[3:7])
    if (child := os.fork()) == 0:
        os._exit(0 if np.array_equal(dataset.read(2, 9)[0].images, data[2:9]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    dataset.close()
    copy.close()
    there = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert path not in there


def test_filters_that_were_left_out_of_a_chunk_are_left_out(tmp_path):
    data = images((6, 8, 8, 3), "<u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("images", data=data, chunks=(2, 8, 8, 3), shuffle=True, compression="gzip")
        made.id.write_direct_chunk((2, 0, 0, 0), data[2:4].tobytes(), filter_mask=3)
    with HDF5Images(tmp_path / "a.h5") as dataset:
        assert isinstance(reader(dataset), ChunkedRows)
        np.testing.assert_array_equal(dataset.read(0, 6)[0].images, data)


def test_a_dataset_that_was_made_smaller_keeps_its_rows(tmp_path):
    data = images((20, 8, 8, 3))
    write(tmp_path / "a.h5", data, chunks=(4, 8, 8, 3), maxshape=(None, 8, 8, 3), compression="gzip")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["images"].resize(9, axis=0)
    with HDF5Images(tmp_path / "a.h5") as dataset:
        np.testing.assert_array_equal(dataset.read(0, 9)[0].images, data[:9])


def test_chunks_at_the_edge_without_filters_are_left_to_hdf5(tmp_path):
    name = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libhdf5-" in line]
    if not name:
        pytest.skip("HDF5's library is not to be found")
    data = images((10, 8, 8, 3))
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((4, 8, 8, 3))
        plan.set_deflate(4)
        options = ctypes.CDLL(name[0]).H5Pset_chunk_opts
        options.argtypes = [ctypes.c_int64, ctypes.c_uint]
        assert options(plan.id, 2) == 0
        made = h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple(data.shape), plan)
        h5py.Dataset(made)[...] = data
    with HDF5Images(tmp_path / "a.h5") as dataset:
        assert reader(dataset) is False
        np.testing.assert_array_equal(dataset.read(0, 10)[0].images, data)


def test_a_file_that_changes_while_it_is_open_is_an_error(tmp_path):
    write(tmp_path / "a.h5", images((6, 8, 8, 3)))
    dataset = HDF5Images(tmp_path / "a.h5")
    write(tmp_path / "a.h5", images((5, 8, 8, 3)))
    with pytest.raises(DatasetError, match="has changed"):
        dataset.read(0, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, None),
        ({"chunks": (64, 16, 16, 3), "compression": "gzip"}, None),
        ({"chunks": (1, 16, 16, 3), "compression": "gzip"}, None),
        (
            {"chunks": (4096, 4, 4, 1), "compression": "gzip"},
            r"block of 1,024 \(786 kB\), decodes 48 chunks \(3.15 MB\).*CHUNK=1024x16x16x3 -f images:GZIP=4",
        ),
        ({"chunks": (64, 2, 2, 3)}, r"reads 1,024 chunks \(786 kB in all; one image 49.2 kB\)"),
        ({"chunks": (64, 16, 16, 3), "scaleoffset": 0}, "only one thread at a time"),
    ],
)
def test_users_are_told_of_a_slow_layout(tmp_path, options, words):
    write(tmp_path / "a.h5", images((5000, 16, 16, 3)), **options)
    with HDF5Images(tmp_path / "a.h5") as dataset:
        advice = dataset.layout_advice()
    if words is None:
        assert advice is None
    else:
        assert re.search(words, advice)
