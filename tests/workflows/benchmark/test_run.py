"""A whole benchmark in real processes: run, interrupted, gone on with, tabulated."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from ngvae_tools.benchmark_record import BenchmarkRecord
from ngvae_tools.datasets import write_sprites
from ngvae_tools.errors import OptionError, OutputError, RecordError
from ngvae_tools.workflows.benchmark.plan import Plan, make_plan
from ngvae_tools.workflows.benchmark.presets import PRESETS, GeneratedData
from ngvae_tools.workflows.benchmark.run import benchmark, run_preset, tabulate

TINY = dataclasses.replace(
    PRESETS["quick"],
    data=(GeneratedData("sprites", 200, 16), GeneratedData("room", 200, 16, "3dshapes-like", fixed={"scale": 0.4})),
    latent_dims=(4, 6),
    models=("vae", "default", "fondue", "least-volume"),
    seeds=2,
)


def test_the_plan_has_every_cell_once(tmp_path):
    plan = make_plan(TINY, tmp_path, command="c", device="cpu", epochs=2, training_device="cpu")
    assert [(each.name, each.intrinsic) for each in plan.data] == [("sprites", (6, 7)), ("room", (8, 10))]
    names = [cell.name for cell in plan.cells]
    # Of each seed and data set: three models at two K, and FONDUE once.
    assert len(set(names)) == len(names) == 2 * 2 * (3 * 2 + 1)
    assert names[:4] == [
        "sprites-k4-vae-seed0",
        "sprites-k4-default-seed0",
        "sprites-fondue-seed0",
        "sprites-k4-least-volume-seed0",
    ]
    trained = [cell for cell in plan.cells if cell.train]
    assert {cell.config.epochs for cell in trained} == {2}
    assert {(cell.labels, cell.predict, cell.bootstrap) for cell in trained} == {("auto", False, 0)}
    assert {cell.config.device for cell in plan.cells} == {"cpu"}
    rivals = {cell.extra for cell in plan.cells if not cell.train}
    assert rivals == {f"ngvae_tools.workflows.benchmark.rivals:{name}" for name in ("fondue", "least_volume")}
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    assert make_plan(TINY, tmp_path, command="c", device="cpu", epochs=2, training_device="cpu") == plan
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()} == before


def test_own_data_in_place_of_the_presets(tmp_path, as_h5):
    write_sprites(tmp_path / "a b.h5", images=20, size=24)
    (tmp_path / "other").mkdir()
    write_sprites(tmp_path / "other" / "a b.h5", images=20, size=32)
    plan = make_plan(
        TINY,
        tmp_path / "out",
        command="c",
        device="cpu",
        data=[
            tmp_path / "a b.h5",
            tmp_path / "other" / "a b.h5",
            as_h5(tmp_path / "x.h5", np.zeros((9, 16, 16, 1), np.uint8)),
        ],
    )
    assert [each.name for each in plan.data] == ["a-b", "a-b-2", "x"]
    assert plan.data[2].intrinsic is None
    assert not (tmp_path / "out" / "data").exists()
    # 24 is no size that the networks take.
    resized = {cell.options["data"]: (cell.config.resize, cell.labels) for cell in plan.cells if cell.train}
    assert resized == {"a-b": ("stretch", "auto"), "a-b-2": (None, "auto"), "x": (None, None)}


def test_options_that_cannot_be_used(tmp_path):
    for options, found in (
        ({"preset": "huge"}, "huge"),
        ({"models": ["gan"]}, "gan"),
        ({"epochs": 0}, "0"),
        ({"dataset_key": "x"}, "--data"),
        ({"device": "tpu"}, "tpu"),
    ):
        with pytest.raises(OptionError, match=found):
            benchmark(tmp_path / "B", **options)
    with pytest.raises(RecordError, match="holds no benchmark"):
        tabulate(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A benchmark of two models and a rival on tiny images."""
    folder = tmp_path_factory.mktemp("benchmark")
    models = ("vae", "default", "least-volume")
    preset = dataclasses.replace(TINY, data=TINY.data[:1], latent_dims=(4,), models=models, seeds=1)
    return folder, preset, run_preset(preset, folder, command="c", epochs=1, device="cpu", workers=1)


@pytest.mark.slow
def test_a_benchmark(finished):
    folder, _, record = finished
    assert BenchmarkRecord.read(folder) == record
    assert [(row.model, row.cells, row.failures) for row in record.rows] == [
        ("vae", 1, ()),
        ("default", 1, ()),
        ("least-volume", 1, ()),
    ]
    vae, ours, rival = record.rows
    assert {"entropy", "decorrelation", "decorrelation_signed", "beta_vae", "mig", "count", "mse"} <= set(vae.figures)
    assert set(ours.figures) - set(vae.figures) >= {"crisp", "rest_p", "agreement"}
    assert set(rival.figures) == {"count", "distance", "near", "seconds"}
    assert all(row.figures["count"].n == 1 for row in record.rows)
    assert vae.mse_ratio == 1
    assert "| VAE | 0.245 |" in (folder / "table.md").read_text()
    analysis = json.loads((folder / "cells" / "sprites-k4-vae-seed0" / "analysis" / "selection.json").read_text())
    assert analysis["supervised"]["mig"] is not None
    assert analysis["supervised"]["sap"] is None


@pytest.mark.slow
def test_again_and_from_the_cells(finished):
    folder, preset, record = finished
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*")}
    (folder / "benchmark.json").unlink()
    (folder / "table.md").unlink()
    assert tabulate(folder) == record
    assert run_preset(preset, folder, command="c", epochs=1, device="cpu") == record
    assert {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*")} == stamps
    with pytest.raises(OutputError, match="another training"):
        run_preset(preset, folder, command="c", epochs=2, device="cpu")
    assert tabulate(folder) == record


@pytest.mark.slow
def test_what_the_trainings_say_of_themselves_is_told(finished, tmp_path):
    folder, _, record = finished
    assert not any("versions" in note or "ran on" in note or "could not" in note for note in record.notes)
    shutil.copytree(folder, tmp_path / "B")
    file = tmp_path / "B/cells/sprites-k4-vae-seed0/run/config.json"
    config = json.loads(file.read_text())
    config["versions"]["torch"] = "1.0"
    config["identity"]["device"] = "cuda"
    config["data"]["rejected"] = [{"id": "3", "reason": "broken"}]
    file.write_text(json.dumps(config))
    notes = " ".join(tabulate(tmp_path / "B").notes)
    assert "different versions of torch: 1.0, 2" in notes
    assert "ran on cpu and cuda" in notes
    assert "could not be used: 1 broken (3); config.json of each training" in notes


SCRIPT = """
import sys
from pathlib import Path
import dataclasses
from ngvae_tools.workflows.benchmark.presets import PRESETS, GeneratedData
from ngvae_tools.workflows.benchmark.run import run_preset
preset = dataclasses.replace(PRESETS["quick"], data=(GeneratedData("sprites", 200, 16),), latent_dims=(4,),
    models=("vae", "default", "least-volume"), seeds=1)
run_preset(preset, Path(sys.argv[1]), command="c", epochs=1, device="cpu", workers=1)
"""


@pytest.mark.slow
def test_killed_and_gone_on_with(finished, tmp_path):
    _, preset, whole = finished
    folder = tmp_path / "B"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, folder])
    done = folder / "cells" / "sprites-k4-vae-seed0" / "cell.json"
    until = time.monotonic() + 120
    while not done.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stamp = done.stat().st_mtime_ns
    part = tabulate(folder)
    missing = [cell for cell in part.cells if cell.failed is not None]
    assert 0 < len(missing) < len(part.cells)
    assert {cell.failed for cell in missing} == {"not run yet"}
    record = run_preset(preset, folder, command="c", epochs=1, device="cpu", workers=2)
    assert done.stat().st_mtime_ns == stamp

    def unclocked(cells):
        return [dataclasses.replace(c, figures={k: v for k, v in c.figures.items() if k != "seconds"}) for c in cells]

    assert unclocked(record.cells) == unclocked(whole.cells)


@pytest.mark.slow
def test_a_cell_that_fails_is_shown(tmp_path):
    preset = dataclasses.replace(
        TINY,
        data=TINY.data[:1],
        latent_dims=(4,),
        models=("vae", "least-volume"),
        seeds=1,
        options={"learning_rate": 1e30},
    )
    record = run_preset(preset, tmp_path, command="c", epochs=2, device="cpu", workers=1)
    assert all("diverged" in cell.failed for cell in record.cells)
    assert "VAE (1 of 1 failed)" in (tmp_path / "table.md").read_text()
    assert "diverged" in (tmp_path / "table.md").read_text()
