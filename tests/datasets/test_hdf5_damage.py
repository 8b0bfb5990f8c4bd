"""Damaged and hostile HDF5 files: rows are rejected with a reason, the others read, memory stays bounded."""

import os
import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from ngvae_tools.datasets import HDF5Images
from ngvae_tools.datasets.chunked import ChunkedRows
from ngvae_tools.errors import DatasetError

SHAPE = (12, 8, 8, 2)
CHECKED = {
    "gzip": {"compression": "gzip"},
    "shuffle and gzip": {"shuffle": True, "compression": "gzip"},
    "fletcher32": {"fletcher32": True},
    "lzf and fletcher32": {"compression": "lzf", "fletcher32": True},
    "shuffle, gzip and fletcher32": {"shuffle": True, "compression": "gzip", "fletcher32": True},
}


def write(path, chunks=(4, 8, 8, 2), **options):
    data = (np.random.default_rng(0).integers(0, 9, SHAPE) // 3 * 5000).astype("<u2")
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=data, chunks=chunks, **options)
    return data


def place(path, number=1):
    with h5py.File(path) as file:
        return file["images"].id.get_chunk_info(number)


def patch(path, offset, content):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def expect(path, data, bad):
    """All rows but `bad` read as written, in any cut."""
    for step in (12, 4, 3, 1):
        with HDF5Images(path) as dataset:
            dataset.read(0, 0)
            assert isinstance(dataset._direct, ChunkedRows)
            parts = [dataset.read(k, min(k + step, 12)) for k in range(0, 12, step)]
            assert [r.index for _, some in parts for r in some] == bad
            reasons = {r.reason for _, some in parts for r in some}
            for samples, _ in parts:
                np.testing.assert_array_equal(samples.images, data[samples.index])
    return reasons


@pytest.mark.parametrize("name", CHECKED)
def test_no_flipped_bit_goes_unnoticed(tmp_path, name):
    path = tmp_path / "a.h5"
    data = write(path, **CHECKED[name])
    info = place(path)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for byte in (0, 2, info.size - 1, *rng.integers(2, info.size, 20)):
        at = info.byte_offset + int(byte)
        patch(path, at, bytes([content[at] ^ 1 << int(rng.integers(8))]))
        (reason,) = expect(path, data, [4, 5, 6, 7])
        assert reason.startswith("cannot be read: chunk (4, 0, 0, 0) ")
        patch(path, at, content[at : at + 1])


def test_damaged_lzf_that_cannot_be_decoded_is_rejected(tmp_path):
    data = write(tmp_path / "a.h5", compression="lzf")
    patch(tmp_path / "a.h5", place(tmp_path / "a.h5").byte_offset, b"\xff" * 8)
    expect(tmp_path / "a.h5", data, [4, 5, 6, 7])


def test_one_damaged_chunk_of_many_rejects_the_rows_it_has_a_part_in(tmp_path):
    path = tmp_path / "a.h5"
    data = write(path, (4, 4, 4, 1), compression="gzip")
    reasons = set()
    for number in (11, 13):
        info = place(path, number)
        patch(path, info.byte_offset, b"\xff" * 4)
        # The first in order of place, in whatever order threads met them.
        reasons |= expect(path, data, [4, 5, 6, 7])
    assert len(reasons) == 1


@pytest.mark.parametrize("size", [0, 100, 1023, 1025, 2000, 2**27])
def test_a_chunk_that_inflates_to_another_size_is_rejected_in_little_memory(tmp_path, size):
    path = tmp_path / "a.h5"
    data = write(path, compression="gzip")
    with h5py.File(path, "a") as file:
        file["images"].id.write_direct_chunk((4, 0, 0, 0), zlib.compress(bytes(size)))
    tracemalloc.start()
    try:
        expect(path, data, [4, 5, 6, 7])
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_bytes_after_the_stream_are_ignored_as_hdf5_does(tmp_path):
    data = write(tmp_path / "a.h5", compression="gzip")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        packed = zlib.compress(data[4:8].tobytes()) + b"more"
        file["images"].id.write_direct_chunk((4, 0, 0, 0), packed)
        np.testing.assert_array_equal(file["images"][:], data)
    expect(tmp_path / "a.h5", data, [])


def entry(path, info):
    """Where the chunk index keeps the entry of a chunk: its size, mask, corner, and 40 bytes on its address."""
    key = struct.pack("<IIQQQQQ", info.size, info.filter_mask, *info.chunk_offset, 0)
    content = path.read_bytes()
    assert content.count(key) == 1
    return content.index(key)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
@pytest.mark.parametrize("offset", [2**40, 2**62, 2**63 + 5])
def test_an_address_beyond_the_file_is_rejected(tmp_path, options, offset):
    path = tmp_path / "a.h5"
    data = write(path, **options)
    patch(path, entry(path, place(path)) + 48, struct.pack("<Q", offset))
    expect(path, data, [4, 5, 6, 7])


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"fletcher32": True}])
@pytest.mark.parametrize("size", [0, 3, 2**31, 2**32 - 1])
def test_a_size_that_cannot_be_is_rejected_in_little_memory(tmp_path, options, size):
    path = tmp_path / "a.h5"
    data = write(path, **options)
    patch(path, entry(path, place(path)), struct.pack("<I", size))
    tracemalloc.start()
    try:
        expect(path, data, [4, 5, 6, 7])
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_damaged_index_is_an_error_or_gives_rejections(tmp_path):
    path = tmp_path / "a.h5"
    write(path, compression="gzip")
    with HDF5Images(path) as dataset:
        patch(path, path.read_bytes().index(b"TREE\x01"), b"TRAA")
        samples, rejections = dataset.read(0, 12)
    with pytest.raises(DatasetError, match="undamaged"):
        HDF5Images(path)
    assert len(samples) == 0
    assert all("cannot be read" in r.reason for r in rejections)


@pytest.mark.parametrize("chunks", [None, (4, 8, 8, 2)])
def test_a_file_that_is_cut_while_it_is_open(tmp_path, chunks):
    path = tmp_path / "a.h5"
    data = write(path, chunks)
    with HDF5Images(path) as dataset:
        dataset.read(0, 1)
        with h5py.File(path) as file:
            images = file["images"].id
            end = images.get_offset() if chunks is None else images.get_chunk_info(0).byte_offset
        os.truncate(path, end + 9 * 256 + 100)
        samples, rejections = dataset.read(0, 12)
    kept = 9 if chunks is None else 8
    assert samples.index.tolist() == list(range(kept))
    np.testing.assert_array_equal(samples.images, data[:kept])
    assert all("cannot be read" in r.reason for r in rejections)
