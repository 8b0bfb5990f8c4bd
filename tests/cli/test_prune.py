import json

import pytest
from inference.graphs import Linear, images_of


@pytest.fixture
def sample(pytestconfig):
    return pytestconfig.rootpath / "sample_data"


@pytest.fixture
def selection(commands, sample, tmp_path):
    words = ("select-latents", sample / "encoder.onnx", sample / "sprites.h5", "-o", "OUT", "--bootstrap", "0")
    found = commands(*words, "--decoder", sample / "decoder.onnx")
    assert found.returncode == 0, found.stderr
    return tmp_path / "OUT"


def test_prune_and_the_next_command(watch, selection, sample, tmp_path):
    truncation = json.loads((selection / "selection.json").read_text())["truncation"]
    assert truncation["by_relevance"]["knee"] == truncation["by_information"]["knee"] == 6
    watched = watch("torch")
    found = watched.run(
        "prune", sample / "encoder.onnx", "--selection", "OUT", "--decoder", sample / "decoder.onnx", "-o", "small"
    )
    assert found.returncode == 0, found.stderr
    assert watched.attempts == []
    assert "torch" not in watched.loaded
    out = " ".join(found.stdout.split())
    for name in ("encoder", "decoder"):
        before, after = ((place / f"{name}.onnx").stat().st_size for place in (sample, tmp_path / "small"))
        assert f"small/{name}.onnx: 6 of 15 dimensions (2-5, 7, 9), {after:,} bytes instead of {before:,}" in out
    assert out.count("largest difference to the whole model") == 2
    following = found.stderr.splitlines()[-1]
    assert following == f"Next: ngvae-tools select-latents small/encoder.onnx {sample / 'sprites.h5'}"
    words = following.removeprefix("Next: ngvae-tools ").split()
    assert watched.run(*words, "--bootstrap", "0", "-o", "again").returncode == 0
    record = json.loads((tmp_path / "again" / "selection.json").read_text())
    assert record["model"]["latent_dim"] == record["selection"]["count"] == 6


def test_the_next_command_reads_a_model_from_elsewhere_as_it_was_read(commands, tmp_path, as_h5):
    foreign = {"metadata": None, "sample_type": "float32", "names": ("fc21", "fc22")}
    Linear(5, (8, 8, 8), second="logvar").save(tmp_path / "m.onnx", **foreign)
    as_h5(tmp_path / "d.h5", images_of(40, (8, 8, 8)))
    told = ("--layout=NHWC", "--input-range=-1,1")
    words = (
        "m.onnx",
        "d.h5",
        "-o",
        "OUT",
        "--mu",
        "fc21",
        "--logvar",
        "fc22",
        "--dimensions",
        "1,3",
        "--bootstrap",
        "0",
    )
    found = commands("select-latents", *words, *told)
    assert found.returncode == 0, found.stderr
    found = commands("prune", "m.onnx", "--selection", "OUT", "--layout", "NHWC", "-o", "small")
    assert found.returncode == 0, found.stderr
    following = found.stderr.splitlines()[-1].split()
    assert following[:4] == ["Next:", "ngvae-tools", "select-latents", "small/encoder.onnx"]
    assert following[5:] == ["--layout=NHWC", "--input-range=-1.0,1.0"]
    found = commands(*following[2:], "-o", "again", "--bootstrap", "0")
    assert found.returncode == 0, found.stderr
    before, after = (
        json.loads((tmp_path / name / "selection.json").read_text())["dimensions"] for name in ("OUT", "again")
    )
    assert [row["mu_mean"] for row in after] == pytest.approx([before[k]["mu_mean"] for k in (1, 3)], rel=1e-6)
    found = commands("prune", "m.onnx", "--dimensions", "1", "--mu", "fc21", *told[:1], "--input-range=0,2")
    assert "DATA --layout=NHWC --input-range=0.0,2.0" in found.stderr


def test_dimensions_by_name(commands, sample, tmp_path):
    found = commands("prune", sample / "encoder.onnx", "--dimensions", "3,1")
    assert found.returncode == 0, found.stderr
    assert "No output named: writing to encoder-pruned." in found.stderr
    assert found.stdout.startswith("encoder-pruned/encoder.onnx: 2 of 15 dimensions (1, 3)")
    assert "Next: ngvae-tools select-latents encoder-pruned/encoder.onnx DATA" in found.stderr
    third = commands("--quiet", "prune", sample / "encoder.onnx", "--dimensions", "3,1", "--overwrite")
    assert (third.returncode, third.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dimensions", "1", "--input-range", "1,0"], "Error: --input-range cannot be read: "),
        (["--dimensions", "1", "--input-range=0,1"], "Error: --input-range cannot be used with "),
        (["--dimensions", "a"], "Error: --dimensions cannot be read: "),
        (["--dimensions", "1", "--decoder", "d.onnx"], "Error: the decoder cannot be pruned with --dimensions alone: "),
        (["--dimensions", "1", "-o", "."], "Error: encoder.onnx already exists: "),
        (["--selection", "nowhere"], "Error: nowhere/selection.json is not an analysis record that can be read: "),
    ],
)
def test_one_sentence_for_what_cannot_be(commands, sample, tmp_path, words, sentence):
    (tmp_path / "encoder.onnx").write_text("mine")
    found = commands("prune", sample / "encoder.onnx", "-o", "out", *words)
    assert found.returncode == 2
    assert found.stderr.startswith(sentence)
    assert len(found.stderr.splitlines()) == 1
    assert "Errno" not in found.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_and_dimensions(commands, sample, tmp_path):
    found = commands("prune", sample, "--dimensions", "1", "-o", "out")
    assert found.returncode == 0, found.stderr
    assert "The run's decoder was not pruned: that needs --selection" in found.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["encoder.onnx"]
