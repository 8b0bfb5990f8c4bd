import json

import pytest
from inference.decoders import LinearDecoder
from inference.graphs import Linear

from exporters.prune import prune_encoder

FOREIGN = {"metadata": None, "sample_type": "float32"}


def test_an_encoder(tmp_path, commands):
    Linear().save(tmp_path / "m.onnx")
    done = commands("inspect", "m.onnx")
    assert done.returncode == 0, done.stderr
    assert "It can be used as an encoder as it is." in done.stdout
    for part in ("sha256", "Add 2", "image tensor(uint8) (N, 6, 5, 3)", "normal-gamma"):
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr == ""


def test_json_and_no_torch(tmp_path, watch):
    watched = watch("torch")
    Linear().save(tmp_path / "m.onnx")
    done = watched.run("inspect", "m.onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["latent_dim"] == 3
    assert watched.attempts == []


def test_what_is_missing_ends_with_two_and_the_option_mends_it(tmp_path, commands):
    Linear(shape=(8, 8, 8)).save(tmp_path / "m.onnx", names=("one", "two"), **FOREIGN)
    done = commands("inspect", "m.onnx")
    assert done.returncode == 2
    for part in ("Missing:", "--layout", "--mu", "cannot be used as an encoder as it is"):
        assert part in done.stdout
    options = ("--mu", "one", "--logvar", "two", "--layout", "NHWC", "--input-range=-1,1", "--spatial", "position")
    done = commands("inspect", "m.onnx", *options)
    assert done.returncode == 0, done.stderr
    assert "-1 to 1" in done.stdout


def test_a_decoder(commands, run):
    done = commands("inspect", run.decoder)
    assert done.returncode == 0, done.stderr
    assert "This is a decoder (z to image): it can be used with select-latents --decoder." in done.stdout
    for part in ("32 x 32, 3 channels, NHWC, uint8", "from 0 to 1", "dimensions"):
        assert part in done.stdout
    assert "Missing" not in done.stdout


def test_a_decoder_that_cannot_be_used(commands, tmp_path):
    linear = LinearDecoder()
    linear.save(tmp_path / "d.onnx", metadata=linear.metadata(latent_dim=4).to_json())
    done = commands("inspect", "d.onnx")
    assert done.returncode == 2
    assert "it cannot be used with select-latents --decoder." in done.stdout


def test_a_pruned_encoder(commands, tmp_path):
    prune_encoder(Linear(6).save(tmp_path / "m.onnx"), (0, 2, 3, 4), tmp_path / "p.onnx")
    done = commands("inspect", "p.onnx")
    assert "4, those of the whole model: 0, 2-4" in done.stdout


@pytest.mark.parametrize("words", [("none.onnx",), ("m.onnx", "--input-range", "1,0")])
def test_errors_are_sentences(tmp_path, commands, words):
    Linear().save(tmp_path / "m.onnx")
    done = commands("inspect", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_text_of_the_file_is_not_obeyed(tmp_path, commands):
    Linear().save(tmp_path / "m.onnx", names=("\x1b[31m[red]a", "two"), **FOREIGN)
    done = commands("inspect", "m.onnx")
    assert done.returncode == 2
    assert "\x1b" not in done.stdout
    assert r"\x1b[31m[red]a" in done.stdout
