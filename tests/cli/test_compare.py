import json
from pathlib import Path

import h5py
import numpy as np
import pytest

SAMPLE = Path(__file__).parents[2] / "sample_data"


@pytest.fixture
def folders(commands):
    """Analyses of the sample data and of a darker copy, made by real processes."""
    with h5py.File(SAMPLE / "sprites.h5") as file:
        images = file["images"][:]
    with h5py.File(commands.folder / "dark.h5", "w") as file:
        file["images"] = (images * 0.7).astype(np.uint8)
    encoder = SAMPLE / "encoder.onnx"
    assert commands("select-latents", encoder, SAMPLE / "sprites.h5", "-o", "a").returncode == 0
    assert commands("select-latents", encoder, "dark.h5", "-o", "b", "--selection", "a").returncode == 0
    return commands


def test_compare(folders):
    found = folders("compare", "a", "b", "--output", "drift.json")
    assert (found.returncode, found.stdout.splitlines()[1][:20]) == (0, "The data sets differ")
    assert max(len(line) for line in found.stdout.splitlines()) <= 80
    assert "nan" not in found.stdout.lower().replace("distance", "")
    assert "Wrote drift.json." in found.stderr
    printed = folders("compare", "a", "b", "--json", "--quiet", "--fail-if-different")
    assert printed.returncode == 5
    assert printed.stdout == (folders.folder / "drift.json").read_text()
    assert printed.stderr == ""
    assert json.loads(printed.stdout)["differs"]

    assert "Next: ngvae-tools report a b\n" in found.stderr
    same = folders("compare", "a", "a", "--fail-if-different")
    assert (same.returncode, "Next" in same.stderr) == (0, False)
    again = folders("compare", "a", "b", "--output", "drift.json")
    assert (again.returncode, "--overwrite" in again.stderr) == (2, True)
    nothing = folders("compare", "a", "nowhere")
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("Error: nowhere is neither an analysis")
    assert "Traceback" not in nothing.stderr
