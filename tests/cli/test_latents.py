import json
from pathlib import Path

import h5py
import latent_files
import numpy as np
import pytest

from ngvae_tools.latents.reader import LatentFile

SAMPLE = Path(__file__).parents[2] / "sample_data"
HEAVY = {"numpy", "h5py", "onnxruntime", "pandas", "xarray", "pyarrow", "faiss", "anndata"}


@pytest.fixture
def latents(commands):
    """A latent file in the folder of the command line."""
    values = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    labels = np.column_stack([np.arange(300.0), np.arange(300) % 10])
    latent_files.write(
        commands.folder / "latents.h5",
        values,
        latent_files.names_of(300, "paths"),
        labels=labels,
        factors=(("size", "continuous"), ("kind", "categorical")),
        classes=(None, (*"abcdefghi", "\x1b[31m")),
    )
    return commands


def test_help_loads_nothing_heavy(watch):
    watched = watch()
    for command in ((), ("info",), ("export",), ("verify",), ("index",), ("similar",), ("append",), ("merge",)):
        found = watched.run("latents", *command, "--help")
        assert found.returncode == 0
        assert not HEAVY & watched.loaded


def test_info(latents):
    found = latents("latents", "info", "latents.h5")
    assert (found.returncode, found.stderr) == (0, "")
    assert max(len(line) for line in found.stdout.splitlines()) <= 80
    assert "3 of 7: 1, 3, 5" in found.stdout
    assert "size (continuous)" in found.stdout
    assert "kind (categorical: a, b, c, d, e, f, g, h and 2 more)" in " ".join(found.stdout.split())
    as_json = json.loads(latents("latents", "info", "latents.h5", "--json").stdout)
    assert as_json["classes"] == [None, [*"abcdefghi", "\x1b[31m"]]
    assert as_json["rows"] == 300
    assert [row["dimension"] for row in as_json["dimensions"]] == [1, 3, 5]
    assert latents("latents", "info", ".").stdout == found.stdout


def test_verify(latents):
    found = latents("latents", "verify", "latents.h5")
    assert found.returncode == 0
    assert found.stdout.startswith("OK: latents.h5")
    path = latents.folder / "latents.h5"
    data = bytearray(path.read_bytes())
    data[int(LatentFile(path)._structure.arrays["codes"].offsets[0, 1]) + 10] ^= 16
    path.write_bytes(data)
    broken = latents("latents", "verify", "latents.h5")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert broken.stderr.startswith("Error: latents.h5 is ")
    assert len(broken.stderr.splitlines()) == 1


def test_export(latents):
    found = latents("latents", "export", "latents.h5", "x.csv")
    assert (found.returncode, found.stdout) == (0, "")
    assert found.stderr.startswith("Wrote x.csv: 300 rows of 3 columns and 2 labels")
    assert len((latents.folder / "x.csv").read_text().splitlines()) == 301
    again = latents("latents", "export", "latents.h5", "x.csv")
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)
    printed = latents("latents", "export", "latents.h5", "x.csv", "--overwrite", "--json", "--quiet")
    assert (json.loads(printed.stdout)["rows"], printed.stderr) == (300, "")
    unknown = latents("latents", "export", "latents.h5", "x.doc")
    assert (unknown.returncode, ".parquet" in unknown.stderr) == (2, True)
    for name, said in (
        ("nowhere.h5", "found no such file; check the path"),
        ("latents.h5/x", "found Not a directory; check the path"),
        ("x.csv", "found no HDF5 file; name a latent file or the output folder of select-latents"),
        ("y" * 300, "found File name too long; check the path"),
    ):
        nothing = latents("latents", "info", name)
        assert (nothing.returncode, said in nothing.stderr) == (2, True), nothing.stderr


def test_similar_and_index(latents):
    found = latents("latents", "similar", "latents.h5", "17.png", "--count", "3")
    assert (found.returncode, found.stderr) == (0, "")
    head, *rows = found.stdout.splitlines()
    assert (head.split(), len(rows)) == (["distance", "image"], 3)
    distances = [float(row.split()[0]) for row in rows]
    assert distances == sorted(distances)
    printed = json.loads(latents("latents", "similar", "latents.h5", "17.png", "--count", "3", "--json").stdout)
    assert [near["identifier"] for near in printed["images"]] == [row.split()[1] for row in rows]
    assert (printed["row"] is None, printed["indexed"]) == (False, False)

    pytest.importorskip("faiss")
    built = latents("latents", "index", "latents.h5")
    assert (built.returncode, built.stdout) == (0, "")
    assert built.stderr.startswith("Wrote latents.h5.index: 300 rows in 7 cells")
    assert latents("latents", "index", "latents.h5").returncode == 2
    again = json.loads(latents("latents", "similar", ".", "17.png", "--count", "3", "--json").stdout)
    assert again["indexed"]
    assert again["images"] == printed["images"]
    nothing = latents("latents", "similar", "latents.h5", "nope")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith("Error: latents.h5 has no image 'nope'")


def test_similar_encodes_an_image(commands):
    assert commands("select-latents", SAMPLE / "encoder.onnx", SAMPLE / "sprites", "-o", "out").returncode == 0
    options = ("--encoder", SAMPLE / "encoder.onnx", "--count", "1", "--json")
    found = commands("latents", "similar", "out", SAMPLE / "sprites" / "042.png", *options)
    assert found.returncode == 0
    (near,) = json.loads(found.stdout)["images"]
    assert near["identifier"] == "042.png"
    refused = commands("latents", "similar", "out", SAMPLE / "sprites" / "042.png")
    assert (refused.returncode, "--encoder" in refused.stderr) == (2, True)


def test_append_and_merge(commands):
    encoder, data = SAMPLE / "encoder.onnx", SAMPLE / "sprites.h5"
    assert commands("select-latents", encoder, data, "-o", "out").returncode == 0
    with h5py.File(data) as file:
        images = file["images"][:]
    for name, start in (("new.h5", 0), ("other.h5", 64)):
        with h5py.File(commands.folder / name, "w") as file:
            file["images"] = images[start : start + 64, ::-1]
    found = commands("latents", "append", "out", "new.h5", "--encoder", encoder, "-o", "more.h5")
    assert found.returncode == 0, found.stderr
    assert "Wrote more.h5: 320 rows, 64 of them added." in found.stderr
    found = commands("latents", "append", "more.h5", data, "--encoder", encoder)
    assert (found.returncode, "are in more.h5 already" in found.stderr) == (2, True)
    assert commands("select-latents", encoder, "other.h5", "--selection", "out", "-o", "third").returncode == 0
    found = commands("latents", "merge", "more.h5", "third", "-o", "all.h5")
    assert found.returncode == 0, found.stderr
    with LatentFile(commands.folder / "all.h5") as file, LatentFile(commands.folder / "out") as first:
        assert file.identifiers.tolist() == list(range(384))
        np.testing.assert_array_equal(file[:256], first[:])
    found = commands("latents", "merge", "more.h5", "third", "-o", "all.h5")
    assert (found.returncode, found.stdout) == (2, "")
    assert "already exists" in found.stderr


def test_append_says_what_was_rejected(commands, as_pngs):
    encoder = SAMPLE / "encoder.onnx"
    assert commands("select-latents", encoder, SAMPLE / "sprites", "-o", "out").returncode == 0
    new = as_pngs(commands.folder / "new", np.zeros((3, 32, 32, 3), np.uint8))
    (new / "broken.png").write_bytes(b"no")
    found = commands("latents", "append", "out", "new", "--encoder", encoder, "--prefix", "new/")
    assert found.returncode == 3, found.stderr
    assert "1 image could not be used: 1 is not an image" in found.stderr
    assert "(broken.png); out/latents.h5.rejected.jsonl lists each." in found.stderr
    assert len(LatentFile(commands.folder / "out")) == 259
