"""The latent file: round trips, equal bytes, slices, identifiers, labels, and plain HDF5."""

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latent_files import names_of, origin_of, write
from small_disk import run_python

from ngvae_tools import open_latents
from ngvae_tools.errors import OptionError, OutputError, RecordError, UnknownIdentifierError
from ngvae_tools.latents.grid import Grid
from ngvae_tools.latents.header import CHUNK_ROWS
from ngvae_tools.latents.writer import Block, RowsShape, write_latents

SIZES = [0, 1, 2, 255, 4095, 4096, 4097, 8192, 10_000]


def values_of(n, dim, spread=1.0, seed=0):
    return np.random.default_rng(seed).normal(0, spread, (n, dim)).astype(np.float32)


@pytest.mark.parametrize("codec", ["deflate", "archive"])
@pytest.mark.parametrize("kind", ["rows", "names"])
@pytest.mark.parametrize("dim", [0, 1, 7])
@pytest.mark.parametrize("n", SIZES)
def test_what_is_written_is_read_again(tmp_path, n, dim, kind, codec):
    values, names = values_of(n, dim), names_of(n, kind)
    header = write(tmp_path / "a.h5", values, names, range(0, n, 1024), codec=codec)
    with open_latents(tmp_path / "a.h5") as file:
        assert len(file) == n
        assert file.shape == (n, dim)
        read = file.to_numpy()
        assert read.dtype == np.float32
        assert (np.abs(read - values).max(axis=0, initial=0) <= header.max_error).all()
        np.testing.assert_array_equal(file.identifiers, names)
        assert file.dimensions.tolist() == list(range(1, 2 * dim, 2))
        assert file.header.metadata() == header.metadata()
        file.verify()


@pytest.mark.parametrize("codec", ["deflate", "archive"])
@pytest.mark.parametrize(("spread", "dtype"), [(1, "u1"), (10, "u2"), (1e4, "u4")])
def test_every_width_stays_within_the_error_that_it_states(tmp_path, spread, dtype, codec):
    values = values_of(5000, 3, spread)
    header = write(tmp_path / "a.h5", values, codec=codec)
    assert header.coding.dtype == np.dtype(dtype)
    with open_latents(tmp_path / "a.h5", dtype=np.float64) as file:
        error = np.abs(file.to_numpy() - values)
        step = file.header.coding.step
        np.testing.assert_allclose((error**2).mean(axis=0), file.header.mean_squared_error, rtol=1e-5)
    assert (error.max(axis=0) <= header.max_error).all()
    # Beyond half a step only by what rounding to float32 adds.
    assert (header.max_error <= step / 2 + np.abs(values).max() * 2.0**-24).all()
    assert (error.max(axis=0) > 0.9 * step / 2).all()


@pytest.mark.parametrize("codec", ["deflate", "archive"])
@pytest.mark.parametrize("n", SIZES)
def test_lossless_keeps_every_bit(tmp_path, n, codec):
    values = values_of(n, 2, 1e3)
    header = write(tmp_path / "a.h5", values, lossless=True, codec=codec)
    with open_latents(tmp_path / "a.h5") as file:
        assert file.to_numpy().tobytes() == values.tobytes()
        assert file.header.origin.distortion is None
    assert (header.max_error == 0).all()


@pytest.mark.parametrize("kind", ["rows", "names"])
@pytest.mark.parametrize("options", [{}, {"codec": "archive"}, {"lossless": True}])
def test_any_split_gives_the_same_bytes(tmp_path_factory, kind, options):
    values, names = values_of(10_000, 3), names_of(10_000, kind)
    folder = tmp_path_factory.mktemp("splits")
    write(folder / "whole.h5", values, names, **options)
    whole = (folder / "whole.h5").read_bytes()

    @settings(max_examples=10, deadline=None)
    @given(st.lists(st.integers(0, 10_000), max_size=20))
    def check(cuts):
        write(folder / "split.h5", values, names, cuts, **options)
        assert (folder / "split.h5").read_bytes() == whole

    check()


@pytest.fixture(scope="module", params=["deflate", "archive"])
def stored(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "a.h5"
    values = values_of(9001, 4, 5.0)
    write(path, values, names_of(9001, "names"), codec=request.param)
    with open_latents(path) as file:
        yield file, file.to_numpy()


ENDS = st.none() | st.integers(-9100, 9100)
SLICES = st.slices(9001) | st.builds(slice, ENDS, ENDS)
ROWS = SLICES | st.lists(st.integers(-9001, 9000), max_size=30) | st.integers(-9001, 9000)
COLUMNS = st.slices(4) | st.integers(-4, 3) | st.lists(st.integers(-4, 3), max_size=5)


class TestIndexing:
    @settings(max_examples=150, deadline=None)
    @given(rows=ROWS)
    def test_rows_equal_those_of_the_full_read(self, stored, rows):
        file, whole = stored
        expected = whole[rows] if rows != [] else whole[:0]
        np.testing.assert_array_equal(file[rows], expected)

    @settings(max_examples=150, deadline=None)
    @given(rows=st.slices(9001) | st.integers(-9001, 9000), columns=COLUMNS)
    def test_rows_and_columns(self, stored, rows, columns):
        file, whole = stored
        columns = np.array(columns, int) if isinstance(columns, list) else columns
        np.testing.assert_array_equal(file[rows, columns], whole[rows, columns])

    def test_a_mask(self, stored):
        file, whole = stored
        mask = np.random.default_rng(0).random(9001) < 0.01
        np.testing.assert_array_equal(file[mask], whole[mask])

    @pytest.mark.parametrize("key", [9001, -9002, [0, 9001], np.ones(5, bool), [0.5], "a", None, [[1]], True])
    def test_keys_that_name_no_rows(self, stored, key):
        with pytest.raises(IndexError):
            stored[0][key]

    @pytest.mark.parametrize("rows", [None, 1000, 4096, 5000, 20_000])
    def test_chunks_are_the_whole(self, stored, rows):
        file, whole = stored
        parts = list(file.chunks(rows))
        np.testing.assert_array_equal(np.concatenate([values for values, _ in parts]), whole)
        np.testing.assert_array_equal(np.concatenate([names for _, names in parts]), file.identifiers)

    def test_iteration_and_numpy(self, stored):
        file, whole = stored
        np.testing.assert_array_equal(np.asarray(file), whole)
        np.testing.assert_array_equal(np.array(file, dtype=np.float64), whole.astype(np.float64))
        np.testing.assert_array_equal(next(iter(file)), whole[0])

    def test_by_identifier(self, stored):
        file, whole = stored
        names = file.identifiers
        np.testing.assert_array_equal(file.by_id("8.png"), whole[names.tolist().index(b"8.png")])
        np.testing.assert_array_equal(file.by_id([names[5], names[9000].decode()]), whole[[5, 9000]])
        for missing in ("9.jpg", 8, b"", "zzz", "\ud800"):
            with pytest.raises(UnknownIdentifierError, match="has no image"):
                file.by_id(missing)

    def test_another_process_gets_it(self, stored):
        file, whole = stored
        with pickle.loads(pickle.dumps(file)) as again:
            np.testing.assert_array_equal(again[7], whole[7])


def test_row_numbers_in_any_order(tmp_path):
    names = np.array([5, 3, 900, 0])
    write(tmp_path / "a.h5", values_of(4, 2), names)
    with open_latents(tmp_path / "a.h5") as file:
        assert [file.row_of(each) for each in (0, 3, "5", np.int64(900))] == [3, 1, 0, 2]
        for missing in (4, "4", -1, 2**70, "9" * 5000, "no", b"5"):
            with pytest.raises(UnknownIdentifierError):
                file.by_id(missing)


def test_labels(tmp_path):
    labels = np.column_stack([np.arange(5000) % 3, np.linspace(0, 1, 5000)])
    labels[17, 1] = np.nan
    factors = (("kind", "categorical"), ("größe", "continuous"))
    write(tmp_path / "a.h5", values_of(5000, 2), labels=labels, factors=factors)
    with open_latents(tmp_path / "a.h5") as file:
        assert file.labels.names == ("kind", "größe")
        assert file.labels.kinds == ("categorical", "continuous")
        np.testing.assert_array_equal(file.labels.values, labels)
    write(tmp_path / "b.h5", values_of(50, 2))
    with open_latents(tmp_path / "b.h5") as file:
        assert file.labels is None


def test_positions(tmp_path):
    values = values_of(300, 6, 3.0)
    header = write(tmp_path / "a.h5", values, positions=3)
    with open_latents(tmp_path / "a.h5", dtype=np.float64) as file:
        assert file.dimensions.tolist() == [1, 3] * 3
        assert file.posterior_variance.shape == (6,)
        assert header.max_error.shape == (2,)
        assert (np.abs(file.to_numpy() - values).reshape(-1, 2).max(axis=0) <= header.max_error).all()
        assert len(file.storage().bits) == 2


def test_plain_h5py_reads_it(tmp_path):
    values, names = values_of(9000, 2, 30.0), names_of(9000, "names")
    write(tmp_path / "a.h5", values, names)
    with h5py.File(tmp_path / "a.h5") as file:
        names_there = {
            "codes",
            "scale",
            "offset",
            "dimensions",
            "posterior_variance",
            "fill",
            "identifiers",
            "metadata",
        }
        assert set(file) == names_there
        assert json.loads(file["metadata"][0])["distortion"] == 0.01
        decoded = file["offset"][:] + file["scale"][:] * file["codes"][:]
        with open_latents(tmp_path / "a.h5", dtype=np.float64) as ours:
            np.testing.assert_array_equal(decoded, ours.to_numpy())
            assert file.attrs["codes_sha256"].decode() == ours.header.codes_sha256
        assert file["identifiers"][:].tolist() == names.tolist()
        assert file["posterior_variance"][:].tolist() == [0.01, 0.01]
        assert (file.attrs["format"], file.attrs["version"]) == (b"ngvae-latents", 1)
        assert file.attrs["threshold"] == 0.5
        assert file["codes"].chunks == (CHUNK_ROWS, 1)
        assert file["codes"].id.get_num_chunks() == 3 * 2
        assert [dimension[0].name for dimension in file["codes"].dims] == ["/identifiers", "/dimensions"]


def test_nothing_informative_is_a_valid_file_that_says_so(tmp_path):
    write(tmp_path / "a.h5", np.empty((100, 0), np.float32))
    with open_latents(tmp_path / "a.h5") as file:
        assert file.shape == (100, 0)
        assert file.header.origin.dimensions == ()
        assert file[5].shape == (0,)
        assert len(file.identifiers) == 100
        file.verify()


@pytest.mark.parametrize("announced", [99, 101])
def test_another_number_of_rows_than_announced(tmp_path, announced):
    rows, shape = Block(values_of(100, 1), np.arange(100)), RowsShape(announced, np.dtype(np.int64))
    with pytest.raises(ValueError, match="rows"):
        write_latents(tmp_path / "a.h5", lambda: [rows], shape, origin_of(1), grid=Grid(np.ones(1)))


def test_identifiers_are_never_cut(tmp_path):
    rows, shape = Block(values_of(2, 1), np.array([b"long name", b"b"])), RowsShape(2, np.dtype("S5"))
    with pytest.raises(TypeError, match="safe"):
        write_latents(tmp_path / "a.h5", lambda: [rows], shape, origin_of(1), grid=None)


def test_values_beyond_every_code(tmp_path):
    with pytest.raises(OutputError, match=r"cannot be quantised.*--lossless"):
        write(tmp_path / "a.h5", values_of(10, 1, 1e12))


def test_a_type_of_values_that_there_is_not(tmp_path):
    write(tmp_path / "a.h5", values_of(10, 1))
    with pytest.raises(OptionError, match="float32 or float64"):
        open_latents(tmp_path / "a.h5", dtype=np.float16)


def test_after_closing(tmp_path):
    write(tmp_path / "a.h5", values_of(10, 1))
    file = open_latents(tmp_path / "a.h5")
    file.close()
    with pytest.raises(ValueError, match="is closed"):
        file.to_numpy()


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "text.h5").write_text("text")
    with h5py.File(tmp_path / "images.h5", "w") as images:
        images["images"] = np.zeros((2, 3))
    for name in ("missing.h5", "text.h5", "images.h5", "."):
        with pytest.raises(RecordError, match="is not a latent file that can be read"):
            open_latents(tmp_path / name)


def test_memory_stays_bounded(tmp_path):
    code = """
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[2])
from latent_files import origin_of
from ngvae_tools.latents.grid import Grid
from ngvae_tools.latents.writer import Block, RowsShape, write_latents
def write(n):
    block = np.random.default_rng(0).normal(size=(1024, 8)).clip(-1, 1)
    rows = lambda: (Block(block, np.arange(k, k + 1024)) for k in range(0, n, 1024))
    write_latents(Path(sys.argv[1]), rows, RowsShape(n, np.dtype(np.int64)), origin_of(8), grid=Grid(np.ones(8) / 64))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small = write(8 * 1024)
print(write(1024 * 1024) - small)
"""
    # A million rows are 64 MiB of values, 8 MiB of codes and 8 MiB of identifiers.
    assert int(run_python(code, tmp_path / "a.h5", Path(__file__).parents[1])) < 4 * 1024


NAMES = ("long", "round", "\u4e38", "<b>&", "caf\udce9", "a,b \x1b[31m\0", "")


def named(path, **options):
    """A file with a label of text, one of classes that are numbers, and one of texts whose names are not known."""
    labels = np.column_stack([np.arange(60) % len(NAMES), np.arange(60) % 3, np.arange(60)]).astype(float)
    labels[::7] = np.nan
    factors = (("kind", "categorical"), ("n", "categorical"), ("word", "categorical"))
    write(path, values_of(60, 2), labels=labels, factors=factors, classes=(NAMES, None, ()), **options)
    return labels


@pytest.mark.parametrize("codec", ["deflate", "archive"])
def test_names_of_classes(tmp_path, codec):
    labels = named(tmp_path / "a.h5", codec=codec)
    with open_latents(tmp_path / "a.h5") as file:
        assert file.classes == {"kind": NAMES}
        assert file.labels.classes == file.header.classes == (NAMES, None, ())
        np.testing.assert_array_equal(file.labels.values, labels)
        file.verify()
    named(tmp_path / "b.h5", codec=codec)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        classes = json.loads(file["metadata"][0])["classes"]
        assert dict(zip(file["factors"].asstr()[:], classes, strict=True))["kind"] == list(NAMES)


def test_a_file_of_before_does_not_say_what_classes_are_called(tmp_path):
    labels = named(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+", libver=("v110", "v110")) as file:
        body = json.loads(file["metadata"][0])
        assert body.pop("classes")
        text = np.array([json.dumps(body).encode()], np.bytes_)
        del file["metadata"]
        file.create_dataset("metadata", data=text, chunks=(1,), compression=1, shuffle=True)
    with open_latents(tmp_path / "a.h5") as file:
        assert file.header.classes == ((), (), ())
        assert file.classes == {}
        np.testing.assert_array_equal(file.labels.values, labels)
        file.verify()


@pytest.mark.parametrize("code", [2.0, -1.0, 0.5, np.inf])
def test_a_code_without_a_name_is_damage(tmp_path, code):
    factors = (("kind", "categorical"),)
    write(
        tmp_path / "a.h5", np.ones((3, 1)), labels=np.array([[0], [1], [code]]), factors=factors, classes=(("a", "b"),)
    )
    with open_latents(tmp_path / "a.h5") as file:
        for read in (file.verify, lambda: file.labels, lambda: file.labels_of(2, 3)):
            with pytest.raises(RecordError, match="of labels, column 0: codes that have no name"):
                read()
        assert file.labels_of(0, 2)[:, 0].tolist() == [0, 1]
