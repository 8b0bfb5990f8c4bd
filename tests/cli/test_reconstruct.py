import re
from pathlib import Path

import h5py
import pytest

SAMPLE = Path(__file__).parents[2] / "sample_data"
MODEL = (SAMPLE / "encoder.onnx", SAMPLE / "sprites")
DECODER = ("--decoder", SAMPLE / "decoder.onnx")


@pytest.fixture
def selected(commands):
    done = commands("select-latents", *MODEL, "-o", "OUT", "--bootstrap", 0, "--verify", *DECODER)
    assert done.returncode == 0, done.stderr
    assert "Reconstruction" in done.stdout
    assert "Quantisation" in done.stdout
    return commands


def test_reconstruct(selected):
    quality = ("--data", MODEL[1], "--encoder", MODEL[0], "--compare", 64)
    done = selected("reconstruct", "OUT", *DECODER, "-o", "images", *quality)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Quality on 64 images:\n")
    assert len(re.findall(r"PSNR \d\d\.\d\d dB, SSIM 0\.\d{4}\n", done.stdout)) == 3
    assert "Wrote 256 images to images." in done.stderr
    names = [path.name for path in (selected.folder / "images").glob("[!.]*")]
    assert sorted(names) == sorted(path.name for path in MODEL[1].iterdir())

    some = selected("reconstruct", "OUT", *DECODER, "-o", "some.h5", "--rows", "5:8", "--quiet")
    assert (some.returncode, some.stdout, some.stderr) == (0, "", "")
    with h5py.File(selected.folder / "some.h5") as file:
        assert file["images"].shape == (3, 32, 32, 3)
    for words, said in (
        (("-o", "images"), "images already exists"),
        (("-o", "x", "--rows", "5"), "--rows cannot be read"),
        (("-o", "x", "--id", "nobody.png"), "has no image 'nobody.png'"),
        (("-o", "x", "--data", "d"), "no --encoder"),
    ):
        found = selected("reconstruct", "OUT", *DECODER, *words)
        assert (found.returncode, said in found.stderr) == (2, True), found.stderr
        assert "Traceback" not in found.stderr
        assert not (selected.folder / "x").exists()


def test_verify_does_not_go_with_shard(commands):
    done = commands("select-latents", *MODEL, "--shard", "1/2", "--verify", "--any-decoder")
    assert done.returncode == 2
    assert "found --any-decoder, --verify" in " ".join(done.stderr.split())
