import csv
import dataclasses
import json
import math
import os
import sys
import tracemalloc

import anndata
import latent_files
import numpy as np
import pyarrow.parquet as pq
import pytest

from ngvae_tools.errors import MissingDependencyError, OptionError, OutputError, RecordError
from ngvae_tools.latents import reader
from ngvae_tools.latents.header import DataSource
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.workflows.describe_latents import describe_latents, verify_latents
from ngvae_tools.workflows.export_latents import METADATA_KEY, WRITERS, export_latents

FACTORS = (("hue", "circular"), ("z1", "continuous"))
BAD = np.array([b'a,"b".png', b"caf\xc3\xa9.png", b"caf\xe9\n.png", b"d.png"])


@pytest.fixture
def make(tmp_path):
    def write(n=60, d=3, names=None, *, labelled=False, kind="paths", **options):
        values = np.random.default_rng(n + d).standard_normal((n, d)).astype(np.float32)
        if labelled:
            labels = np.arange(2.0 * n).reshape(n, 2) / 3
            labels[::3, 0] = np.nan
            options |= {"labels": labels, "factors": FACTORS}
        names = latent_files.names_of(n, kind) if names is None else names
        latent_files.write(tmp_path / "latents.h5", values, names, **options)
        return LatentFile(tmp_path / "latents.h5")

    return write


CASES = {
    "paths": {},
    "rows": {"kind": "rows"},
    "labels": {"labelled": True},
    "several chunks": {"n": 9000, "d": 2, "labelled": True},
    "not UTF-8": {"n": 4, "names": BAD},
    "no dimension": {"d": 0, "labelled": True},
    "no image": {"n": 0},
    "no image, with labels": {"n": 0, "labelled": True},
    "one dimension": {"d": 1},
    "positions": {"d": 6, "positions": 3},
    "float32": {"lossless": True},
    "archive": {"codec": "archive"},
}


@pytest.fixture(params=CASES)
def file(request, make):
    return make(**CASES[request.param])


def labels_in(file):
    return np.empty((len(file), 0)) if file.labels is None else file.labels.values


def column_names(file):
    if file.header.origin.positions > 1:
        return ["z1_p0", "z3_p0", "z1_p1", "z3_p1", "z1_p2", "z3_p2"]
    return [f"z{k}" for k in file.dimensions.tolist()]


def label_names(file):
    return [] if file.labels is None else ["hue", "z1_label" if file.shape[1] else "z1"]


def test_npy(file, tmp_path):
    done = export_latents(file.path, tmp_path / "x.npy")
    found = np.load(tmp_path / "x.npy")
    assert (found.dtype, found.shape) == (np.float32, file.shape)
    assert (found == file.to_numpy()).all()
    assert (done.rows, done.columns) == file.shape
    assert np.load(tmp_path / "x.npy", mmap_mode="r" if found.size else None).shape == file.shape


def test_npz(file, tmp_path):
    export_latents(file.path, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as found:
        assert found["values"].dtype == np.float32
        for name in ("identifiers", "dimensions", "posterior_variance"):
            assert found[name].dtype == getattr(file, name).dtype
            assert (found[name] == getattr(file, name)).all()
        assert (found["values"] == file.to_numpy()).all()
        assert ("labels" in found) == (file.labels is not None)
        if file.labels is not None:
            np.testing.assert_array_equal(found["labels"], file.labels.values)
            assert found["label_names"].tolist() == ["hue", "z1"]


def test_parquet(file, tmp_path):
    export_latents(file.path, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    names = column_names(file)
    assert table.column_names == ["identifier", *names, *label_names(file)]
    assert table["identifier"].to_pylist() in (
        file.identifiers.tolist(),
        [os.fsdecode(name) for name in file.identifiers.tolist() if isinstance(name, bytes)],
    )
    for k, name in enumerate(names):
        assert (table[name].to_numpy() == file.to_numpy()[:, k]).all()
    for k, name in enumerate(label_names(file)):
        np.testing.assert_array_equal(table[name].to_numpy(), labels_in(file)[:, k])
    said = json.loads(table.schema.metadata[METADATA_KEY.encode()])
    assert said["codes_sha256"] == file.header.codes_sha256


def test_csv(file, tmp_path):
    export_latents(file.path, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as text:
        head, *rows = csv.reader(text)
    width = file.shape[1]
    assert head == ["identifier", *column_names(file), *label_names(file)]
    assert len(rows) == len(file)
    if file.identifiers.dtype.kind == "S":
        assert [os.fsencode(row[0]) for row in rows] == file.identifiers.tolist()
    else:
        assert [int(row[0]) for row in rows] == file.identifiers.tolist()
    found = np.array([row[1 : 1 + width] for row in rows], np.float32).reshape(file.shape)
    assert (found == file.to_numpy()).all()
    known = [[float(text) if text else math.nan for text in row[1 + width :]] for row in rows]
    np.testing.assert_array_equal(np.array(known).reshape(labels_in(file).shape), labels_in(file))


def test_h5ad(file, tmp_path):
    export_latents(file.path, tmp_path / "x.h5ad")
    found = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert found.shape == file.shape
    assert (file.to_numpy() == found.X).all()
    assert found.var_names.tolist() == column_names(file)
    assert found.var["dimension"].tolist() == file.dimensions.tolist()
    assert found.var["posterior_variance"].tolist() == file.posterior_variance.tolist()
    assert found.var["step"].tolist() == file.header.coding.step.tolist()
    names = file.identifiers.tolist()
    assert found.obs_names.tolist() == [
        name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name) for name in names
    ]
    np.testing.assert_array_equal(found.obs.to_numpy(), labels_in(file))
    assert found.uns["encoder_sha256"] == "e1" * 32
    assert json.loads(found.uns["preprocessing"]) == {"image_shape": [8, 8, 3], "resize": None}


@pytest.mark.parametrize(("ending", "said"), [("parquet", "bytes"), ("csv", "bytes"), ("h5ad", "xff"), ("npz", None)])
def test_paths_that_are_not_utf8_are_told(make, tmp_path, ending, said):
    notes = export_latents(make(4, names=BAD).path, tmp_path / f"x.{ending}").notes
    assert [said in note and note.startswith("1 ") for note in notes] == ([True] if said else [])


def test_takes_the_folder(make, tmp_path):
    make()
    assert export_latents(tmp_path, tmp_path / "x.npy").rows == 60


def test_the_data_set_is_not_written_over(tmp_path):
    data = tmp_path / "data.npy"
    data.write_text("images")
    latent_files.write(tmp_path / "l.h5", np.ones((3, 2)), sources=(DataSource(str(data), "npy", "0", 3),))
    with pytest.raises(OptionError, match="would replace what it is made of"):
        export_latents(tmp_path / "l.h5", data, overwrite=True)
    assert data.read_text() == "images"


@pytest.mark.parametrize("ending", WRITERS)
def test_what_is_there_stays(make, tmp_path, ending):
    file = make()
    target = tmp_path / f"x{ending}"
    target.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        export_latents(file.path, target)
    assert target.read_text() == "mine"
    export_latents(file.path, target, overwrite=True)
    assert target.stat().st_size > 100
    once = target.read_bytes()
    export_latents(file.path, target, overwrite=True)
    if ending != ".h5ad":
        assert target.read_bytes() == once
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("ending", WRITERS)
def test_a_full_disk_leaves_nothing(make, small_disk, ending):
    file = make(20_000, 8, kind="rows")
    folder = small_disk(256)
    with pytest.raises(OutputError, match="No space left"):
        export_latents(file.path, folder / f"x{ending}")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("ending", WRITERS)
def test_a_damaged_file_leaves_nothing(make, tmp_path, ending):
    file = make()
    data = bytearray(file.path.read_bytes())
    place = int(file._structure.arrays["codes"].offsets[0, 1])
    data[place + 10] ^= 1
    file.path.write_bytes(data)
    with pytest.raises(RecordError, match="damaged"):
        export_latents(file.path, tmp_path / f"x{ending}")
    with pytest.raises(RecordError, match="damaged"):
        verify_latents(file.path)
    assert [path.name for path in tmp_path.iterdir()] == ["latents.h5"]


def test_unknown_formats_and_missing_packages(make, tmp_path, monkeypatch):
    file = make()
    with pytest.raises(OptionError, match=r"ends in \.npy, \.npz, \.parquet, \.csv, \.h5ad"):
        export_latents(file.path, tmp_path / "x.txt")
    for ending, package, extra in (("parquet", "pyarrow", "tables"), ("h5ad", "anndata", "anndata")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependencyError, match=rf"{package} is not installed.*ngvae-tools\[{extra}\]"):
            export_latents(file.path, tmp_path / f"x.{ending}")


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_memory_stays_bounded(make, tmp_path, monkeypatch, ending):
    monkeypatch.setattr(reader, "CHUNK_BYTES", 2**19)
    file = make(200_000, 16, kind="rows")
    values = file.to_numpy().nbytes
    tracemalloc.start()
    export_latents(file.path, tmp_path / f"x{ending}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values == 12_800_000
    assert peak < 4_000_000


class TestDescription:
    def test_adds_up(self, file):
        found = describe_latents(file.path)
        assert (found.rows, len(found.dimensions) * found.positions) == file.shape
        assert found.bytes == file.path.stat().st_size
        values = len(file) * found.positions
        assert sum(cost.bits for cost in found.dimensions) * values / 8 == pytest.approx(found.codes_bytes)
        if len(file):
            assert found.bytes_per_image == found.bytes / len(file)
        if found.over_entropy is not None:
            rest = found.bytes - found.identifiers_bytes - found.labels_bytes
            bits = sum(cost.entropy for cost in found.dimensions) * values
            assert found.over_entropy == pytest.approx(8 * rest / bits)

    def test_errors_are_those_of_quantisation(self, make):
        values = np.random.default_rng(60 + 3).standard_normal((60, 3)).astype(np.float32)
        file = make(variance=[0.01, 0.04, 1.0])
        error = values - LatentFile(file.path, dtype=np.float64).to_numpy()
        found = describe_latents(file.path).dimensions
        assert [cost.relative_error for cost in found] == [
            pytest.approx(np.sqrt((error[:, 0] ** 2).mean() / 0.01), rel=1e-5),
            pytest.approx(np.sqrt((error[:, 1] ** 2).mean() / 0.04), rel=1e-5),
            pytest.approx(np.sqrt((error[:, 2] ** 2).mean()), rel=1e-5),
        ]
        assert [cost.step for cost in found] == file.header.coding.step.tolist()

    def test_float32_has_neither_step_nor_entropy(self, make):
        found = describe_latents(make(lossless=True).path)
        assert {(cost.step, cost.entropy, cost.max_error) for cost in found.dimensions} == {(None, None, 0.0)}
        assert found.over_entropy is None

    def test_without_noise_an_error_has_no_share(self, make):
        for variance, kept in ((0.0, 0.0), (np.inf, None), (np.nan, None)):
            found = describe_latents(make(lossless=True, variance=variance).path)
            assert {cost.posterior_variance for cost in found.dimensions} == {kept}
            assert {cost.relative_error for cost in found.dimensions} <= {None, 0.0}
            json.dumps(dataclasses.asdict(found), allow_nan=False)


def test_verify_says_what_was_read(file):
    found = verify_latents(file.path)
    assert (found.rows, found.columns) == file.shape
    assert found.codes_sha256 == file.header.codes_sha256


class TestClassesByName:
    NAMES = ("round", 'a,"b"', "caf\udce9", "\u4e38 $x$")
    READABLE = ("round", 'a,"b"', r"caf\xe9", "\u4e38 $x$")

    @pytest.fixture
    def export(self, tmp_path):
        codes = np.arange(5000.0)[:, None] % 4
        codes[7] = np.nan
        values = np.zeros((5000, 1), np.float32)
        factors = (("kind", "categorical"),)
        latent_files.write(tmp_path / "latents.h5", values, labels=codes, factors=factors, classes=(self.NAMES,))

        def run(ending):
            export_latents(tmp_path, tmp_path / f"x{ending}")
            return tmp_path / f"x{ending}"

        return run

    def expected(self, names, missing):
        return [missing if k == 7 else names[k % 4] for k in range(5000)]

    def test_csv(self, export):
        with export(".csv").open(encoding="utf-8", errors="surrogateescape", newline="") as text:
            assert [row[2] for row in csv.reader(text)] == ["kind", *self.expected(self.NAMES, "")]

    def test_parquet(self, export):
        column = pq.read_table(export(".parquet"))["kind"]
        assert column.to_pylist() == self.expected(self.READABLE, None)
        assert column.to_pandas().cat.categories.tolist() == list(self.READABLE)

    def test_h5ad(self, export):
        column = anndata.read_h5ad(export(".h5ad")).obs["kind"]
        assert column.cat.categories.tolist() == list(self.READABLE)
        assert column.astype(object).where(column.notna(), None).tolist() == self.expected(self.READABLE, None)

    def test_npz(self, export):
        with np.load(export(".npz")) as found:
            assert found["classes_0"].tolist() == list(self.READABLE)
            assert found["labels"][:4, 0].tolist() == [0, 1, 2, 3]

    def test_what_a_file_says_of_itself(self, export, tmp_path):
        assert describe_latents(tmp_path).classes == (self.NAMES,)
