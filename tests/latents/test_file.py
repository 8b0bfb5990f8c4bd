"""The latent file: round trip, equal bytes, foreign and damaged files, a full disk."""

from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_disk import LIMIT_FILES, run_python, small_disk

from ngvae_tools.errors import OutputError, RecordError
from ngvae_tools.latents.codec import UniformQuantiser
from ngvae_tools.latents.file import CHUNK_ROWS, read_latents, write_latents


def names_of(n, kind):
    if kind == "rows":
        return np.arange(n, dtype=np.int64) * 3
    # Lengths differ, so pieces of the array have other types than the whole.
    return np.array([b"folder/" * (k > CHUNK_ROWS) + b"%d.png" % k for k in range(n)], dtype=np.bytes_)


def data_of(n, dim, kind="rows", seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)), names_of(n, kind)


def pieces_of(values, names, cuts):
    bounds = [0, *sorted(cuts), len(values)]
    for start, stop in pairwise(bounds):
        piece = names[start:stop]
        if piece.dtype.kind == "S" and len(piece):
            piece = np.array(piece.tolist(), dtype=np.bytes_)
        yield values[start:stop], piece


def write(path, values, names, cuts=(), **changes):
    dim = values.shape[1]
    variance = np.full(dim, 0.01)
    quantiser = UniformQuantiser.fit(variance, values.min(0, initial=np.inf), values.max(0, initial=-np.inf))
    arguments = {
        "n_rows": len(values),
        "quantiser": quantiser,
        "dimensions": tuple(range(1, 2 * dim, 2)),
        "posterior_variance": variance,
        "identifier_type": names.dtype,
        "attributes": {"family": "gaussian", "threshold": 0.5},
    }
    write_latents(path, pieces_of(values, names, cuts), **arguments | changes)
    return quantiser


@pytest.mark.parametrize("kind", ["rows", "names"])
@pytest.mark.parametrize("dim", [0, 1, 7])
@pytest.mark.parametrize("n", [1, 2, 4095, 4096, 4097, 10_000])
def test_what_is_written_is_read_again(tmp_path, n, dim, kind):
    values, names = data_of(n, dim, kind)
    quantiser = write(tmp_path / "a.h5", values, names, range(0, n, 1024))
    read, read_names, dimensions = read_latents(tmp_path / "a.h5")
    assert read.shape == (n, dim)
    np.testing.assert_array_equal(read, quantiser.decode(quantiser.encode(values)))
    np.testing.assert_array_equal(read_names, names)
    assert read_names.dtype == names.dtype
    assert dimensions.tolist() == list(range(1, 2 * dim, 2))


@pytest.mark.parametrize("kind", ["rows", "names"])
def test_any_split_gives_the_same_bytes(tmp_path_factory, kind):
    values, names = data_of(10_000, 3, kind)
    folder = tmp_path_factory.mktemp("splits")
    write(folder / "whole.h5", values, names)
    whole = (folder / "whole.h5").read_bytes()

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(0, 10_000), max_size=20))
    def check(cuts):
        write(folder / "split.h5", values, names, cuts)
        assert (folder / "split.h5").read_bytes() == whole

    check()
    write(folder / "rows.h5", values[:5000], names[:5000], range(1, 5000))
    write(folder / "half.h5", values[:5000], names[:5000])
    assert (folder / "rows.h5").read_bytes() == (folder / "half.h5").read_bytes() != whole


def test_plain_h5py_reads_it(tmp_path):
    values, names = data_of(9000, 2, "names")
    quantiser = write(tmp_path / "a.h5", values, names)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"codes", "scale", "offset", "dimensions", "posterior_variance", "identifiers"}
        decoded = file["offset"][:] + file["scale"][:] * file["codes"][:]
        np.testing.assert_array_equal(decoded, quantiser.decode(quantiser.encode(values)))
        np.testing.assert_allclose(decoded, values, atol=quantiser.step.max() / 2 * (1 + 1e-12))
        assert file["identifiers"][:].tolist() == names.tolist()
        assert file["posterior_variance"][:].tolist() == [0.01, 0.01]
        assert (file.attrs["format"], file.attrs["version"]) == ("ngvae-latents", 0)
        assert (file.attrs["family"], file.attrs["threshold"]) == ("gaussian", 0.5)
        assert file["codes"].chunks == (CHUNK_ROWS, 1)
        assert file["codes"].dtype == quantiser.dtype
        # Whole chunks only, so each was compressed once.
        assert file["codes"].id.get_num_chunks() == 3 * 2


def test_memory_stays_bounded(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from ngvae_tools.latents.codec import UniformQuantiser
from ngvae_tools.latents.file import write_latents
ones = np.ones(8)
def write(n):
    block = np.random.default_rng(0).normal(size=(1024, 8)).clip(-1, 1)
    blocks = ((block, np.arange(k, k + 1024)) for k in range(0, n, 1024))
    write_latents(
        Path(sys.argv[1]), blocks, n_rows=n, quantiser=UniformQuantiser.fit(ones, -ones, ones),
        dimensions=tuple(range(8)), posterior_variance=ones, identifier_type=np.dtype(np.int64), attributes={},
    )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small = write(8 * 1024)
print(write(1024 * 1024) - small)
"""
    # A million rows are 64 MiB of values, 8 MiB of codes and 8 MiB of identifiers.
    assert int(run_python(code, tmp_path / "a.h5")) < 4 * 1024


@pytest.mark.parametrize(("announced", "error"), [(99, ValueError), (101, OutputError)])
def test_another_number_of_rows_than_announced(tmp_path, announced, error):
    values, names = data_of(100, 2)
    with pytest.raises(error, match=r"99 rows|100 rows"):
        write(tmp_path / "a.h5", values, names, n_rows=announced)


def test_identifiers_are_never_cut(tmp_path):
    values, names = data_of(5000, 1, "names")
    with pytest.raises(TypeError, match="safe"):
        write(tmp_path / "a.h5", values, names, identifier_type=np.dtype("S5"))


def test_a_file_that_reads_back_otherwise_is_refused(tmp_path, monkeypatch):
    values, names = data_of(5000, 2)
    read = h5py.Dataset.__getitem__

    def flip(self, key):
        found = read(self, key)
        if self.name == "/codes":
            found[-1, -1] ^= 1
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", flip)
    with pytest.raises(OutputError, match="does not hold what was written"):
        write(tmp_path / "a.h5", values, names)


@pytest.fixture
def file(tmp_path):
    write(tmp_path / "a.h5", *data_of(5000, 2, "names"))
    return tmp_path / "a.h5"


def refused(path, match="is not a latent file that can be read"):
    with pytest.raises(RecordError, match=match):
        read_latents(path)


def test_files_that_are_something_else(tmp_path):
    refused(tmp_path / "missing.h5", "No such file")
    refused(tmp_path, "is not a latent file")
    (tmp_path / "text.h5").write_text("text")
    refused(tmp_path / "text.h5", "signature not found")
    (tmp_path / "empty.h5").write_bytes(b"")
    refused(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "images.h5", "w") as images:
        images["images"] = np.zeros((2, 3))
    refused(tmp_path / "images.h5", "found format None version None")


@pytest.mark.parametrize("attributes", [{"version": 1}, {"version": "0"}, {"format": "other"}, {"format": [1, 2]}])
def test_other_formats_and_versions(file, attributes):
    with h5py.File(file, "a") as stored:
        stored.attrs.update(attributes)
    refused(file)


@pytest.mark.parametrize("name", ["codes", "scale", "offset", "dimensions", "identifiers"])
@pytest.mark.parametrize("change", ["missing", "group", "scalar", "longer"])
def test_datasets_that_do_not_fit(file, name, change):
    with h5py.File(file, "a") as stored:
        old = stored[name][:]
        del stored[name]
        if change == "group":
            stored.create_group(name)
        elif change == "scalar":
            stored[name] = 1.0
        elif change == "longer":
            stored[name] = np.concatenate([old, old[:1]])
    refused(file)


def test_a_truncated_file(file):
    whole = file.read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        file.write_bytes(whole[:length])
        refused(file)


def test_a_flipped_bit_of_a_chunk_never_changes_a_value_unnoticed(file):
    whole, (values, names, _) = file.read_bytes(), read_latents(file)
    with h5py.File(file) as stored:
        chunks = [stored[name].id.get_chunk_info(k) for name in ("codes", "identifiers") for k in range(2)]
    rng, unharmed = np.random.default_rng(0), 0
    for chunk in chunks:
        for place in rng.integers(chunk.byte_offset, chunk.byte_offset + chunk.size, 25):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << rng.integers(8)
            file.write_bytes(damaged)
            try:
                read, read_names, _ = read_latents(file)
            except RecordError:
                continue
            # Deflate pads its last byte with bits that mean nothing.
            unharmed += 1
            np.testing.assert_array_equal(read, values)
            np.testing.assert_array_equal(read_names, names)
    assert unharmed <= 2


WRITE = """
import pathlib, sys
import h5py
import numpy as np
from ngvae_tools.errors import OutputError
from ngvae_tools.files import output_errors
from ngvae_tools.latents.codec import UniformQuantiser
from ngvae_tools.latents.file import read_latents, write_latents

def write(path, n):
    values = np.random.default_rng(0).normal(size=(n, 4))
    variance = np.full(4, 1e-6)
    write_latents(
        path, [(values, np.arange(n))], n_rows=n, dimensions=(0, 1, 2, 3), posterior_variance=variance,
        quantiser=UniformQuantiser.fit(variance, values.min(0), values.max(0)),
        identifier_type=np.dtype(np.int64), attributes={},
    )

path = pathlib.Path(sys.argv[1])
for n in (1000, 5000, 10_000, 40_000, 200_000):
    try:
        with output_errors(path.parent):
            write(path, n)
        print(n, "written")
    except OutputError as error:
        print(n, error.found)
    path.unlink()
write(pathlib.Path(sys.argv[2]), 10)
print(read_latents(pathlib.Path(sys.argv[2]))[0].shape)
"""


def test_a_full_disk_is_an_output_error_and_leaves_the_process_whole(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        lines = run_python(WRITE, disk / "a.h5", tmp_path / "b.h5").splitlines()
    assert lines[0] == "1000 written"
    assert lines[2:] == [*(f"{n} No space left on device" for n in (10_000, 40_000, 200_000)), "(10, 4)"]


def test_a_limit_on_file_sizes_is_an_output_error_too(tmp_path):
    lines = run_python(LIMIT_FILES + WRITE, tmp_path / "a.h5", tmp_path / "b.h5").splitlines()
    assert lines[0] == "1000 written"
    assert lines[2:] == [*(f"{n} File too large" for n in (10_000, 40_000, 200_000)), "(10, 4)"]
