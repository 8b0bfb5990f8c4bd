"""Cells in real worker processes: kept, resumed, failing, interrupted, killed."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from ngvae_tools.errors import DatasetError, DeviceError, OptionError, OutputError
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.workflows.cell_pool import OVERHEAD, CellPool, WorkerState
from ngvae_tools.workflows.cells import (
    REQUEST_NAME,
    RESULT_NAME,
    Cell,
    CellResult,
    _requests,
    epochs_done,
    first_failure,
    run_cells,
    write_result,
)

TINY = TrainingConfig(epochs=1, latent_dim=2, batch_size=16, device="cpu")


def measured(folder, cell):
    """An extra that a worker calls: this module is importable there by PYTHONPATH."""
    return {"epochs": len((folder / "run/history.jsonl").read_text().splitlines()), **cell.options}


def memory(folder, cell):
    """Bytes of images that the worker would hold in memory."""
    from ngvae_tools.training.data import _memory

    return _memory()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from ngvae_tools.datasets import write_sprites

    path = tmp_path_factory.mktemp("small") / "sprites.h5"
    write_sprites(path, images=60, size=16)
    return path


@pytest.fixture
def begun(small, tmp_path):
    """A folder in which a cell was begun, and the cell."""
    cell = Cell(name="one", data=small, config=TINY, options={"answer": 42})
    place = tmp_path / "begun/cells/one"
    place.mkdir(parents=True)
    (place / REQUEST_NAME).write_text(json.dumps(_requests([cell])[0]))
    return tmp_path / "begun", cell


@pytest.fixture(scope="module")
def done(small, tmp_path_factory):
    """Two cells that finished and one that diverged, with what was said on the way."""
    folder = tmp_path_factory.mktemp("cells")
    diverging = dataclasses.replace(TINY, learning_rate=1e30, epochs=2)
    extra = {"extra": "test_cells:measured", "options": {"answer": 42}}
    cells = [
        Cell(name="one", data=small, config=TINY, bootstrap=0, **extra),
        Cell(name="two", data=small, config=diverging, bootstrap=0),
        Cell(name="three", data=small, config=dataclasses.replace(TINY, seed=3), bootstrap=0),
    ]
    plans, said = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        results = run_cells(cells, folder, workers=2, on_plan=plans.append, on_progress=said.append)
    return folder, cells, results, plans, said


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_share_the_memory_for_training_data(small, tmp_path, monkeypatch, workers):
    from ngvae_tools.training.data import _memory

    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    cells = [Cell(name=name, data=small, config=TINY, train=False, extra="test_cells:memory") for name in "abc"]
    results = run_cells(cells, tmp_path, workers=workers)
    assert [result.failed for result in results] == [None] * 3
    assert {result.extra for result in results} == {_memory() // workers}


@pytest.mark.slow
class TestRun:
    def test_each_cell_is_trained_and_analysed(self, done, small):
        _, cells, (one, _, three), *_ = done
        for result in (one, three):
            assert result.failed is None
            assert result.exit_code == 0
            assert result.run().summary["epochs"] == 1
            assert result.analysis().truncation is not None
            assert result.analysis().data.path == str(small)
        assert one.run().encoder.read_bytes() != three.run().encoder.read_bytes()
        assert [one.cell, three.cell] == [cells[0], cells[2]]

    def test_the_extra_was_called_in_the_worker(self, done):
        assert done[2][0].extra == {"epochs": 1, "answer": 42}
        assert done[2][2].extra is None

    def test_a_cell_that_fails_is_recorded_and_stops_no_other(self, done):
        folder, _, (_, failed, _), *_ = done
        assert failed.exit_code == 6
        assert "diverged" in failed.failed
        body = json.loads((folder / "cells/two" / RESULT_NAME).read_text())
        assert (body["failed"], body["exit_code"]) == (failed.failed, 6)
        assert first_failure(done[2]) == f"two: {failed.failed}"

    def test_what_was_said(self, done):
        *_, (plan,), said = done
        assert (plan.total, plan.kept, plan.workers) == (3, 0, 2)
        assert 0 < plan.seconds < 300
        assert sorted(p.ended.cell.name for p in said if p.ended is not None) == ["one", "three", "two"]
        assert [p.done for p in said] == sorted(p.done for p in said)
        assert said[-1].done == 3
        assert {state.stage for p in said for state in p.workers} >= {"training", "analysis"}
        assert all(0 <= state.epochs <= state.expected_epochs for p in said for state in p.workers)
        assert all(p.seconds_left >= 0 for p in said)

    def test_finished_and_diverged_cells_are_kept(self, done):
        folder, cells, results, *_ = done
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        again = run_cells(cells, folder, on_plan=lambda plan: pytest.fail("nothing was left to do"))
        assert again == results
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before

    def test_threads_and_folders_do_not_reach_the_result(self, done, small, tmp_path):
        (result,) = run_cells([dataclasses.replace(done[1][2], name="other")], tmp_path, workers=1)
        for name in ("encoder.onnx", "decoder.onnx"):
            assert (result.folder / "run" / name).read_bytes() == (done[0] / "cells/three/run" / name).read_bytes()


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"config": dataclasses.replace(TINY, sigma=0.3)}, "other: sigma"),
            ({"config": dataclasses.replace(TINY, epochs=2)}, "other: epochs"),
            ({"bootstrap": 7}, "other: bootstrap"),
            ({"options": {"answer": 41}}, "other: options"),
        ],
    )
    def test_another_training_under_the_same_name(self, begun, change, named):
        folder, cell = begun
        fingerprint = json.loads((folder / "cells/one" / REQUEST_NAME).read_text())["fingerprint"]
        with pytest.raises(OutputError, match=named) as error:
            run_cells([dataclasses.replace(cell, **change)], folder)
        assert fingerprint[:16] in error.value.found
        assert fingerprint[:16] not in error.value.expected

    def test_other_data_under_the_same_name(self, begun, tmp_path, as_h5):
        other = as_h5(tmp_path / "d.h5", np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3), dtype=np.uint8))
        with pytest.raises(OutputError, match="other: data"):
            run_cells([dataclasses.replace(begun[1], data=other)], begun[0])

    def test_other_labels_beside_the_same_images(self, small, tmp_path):
        data = Path(shutil.copy(small, tmp_path / "d.h5"))
        cell = Cell(name="one", data=data, config=TINY, labels="auto")
        before = _requests([cell])[0]
        assert _requests([dataclasses.replace(cell, labels=None)])[0]["what"]["labels"] is None
        with h5py.File(data, "r+") as file:
            file["labels"][...] = file["labels"][:][::-1]
        after = _requests([cell])[0]
        assert before["what"]["data"] == after["what"]["data"]
        assert before["fingerprint"] != after["fingerprint"]

    def test_what_cannot_be_trained_does_not_replace_what_is_there(self, begun):
        folder, cell = begun
        kept = folder / "cells/one" / "kept"
        kept.write_text("hours of work")
        other = dataclasses.replace(cell, config=dataclasses.replace(TINY, device="cuda"))
        with pytest.raises(DeviceError):
            run_cells([other], folder, overwrite=True)
        assert kept.read_text() == "hours of work"

    def test_a_request_that_cannot_be_read(self, begun):
        folder, cell = begun
        (folder / "cells/one" / REQUEST_NAME).write_text("{")
        with pytest.raises(OutputError, match="--overwrite"):
            run_cells([cell], folder)

    def test_one_name_twice_and_no_worker(self, small, tmp_path):
        cell = Cell(name="a", data=small, config=TINY)
        with pytest.raises(OptionError, match="one name"):
            run_cells([cell, cell], tmp_path)
        with pytest.raises(OptionError, match="--workers"):
            run_cells([cell], tmp_path, workers=0)
        assert list(tmp_path.iterdir()) == []

    def test_data_that_cannot_be_trained_on(self, tmp_path, as_h5):
        data = as_h5(tmp_path / "d.h5", np.ones((9, 20, 20, 3), np.uint8))
        with pytest.raises(DatasetError, match="multiples of 16"):
            run_cells([Cell(name="a", data=data, config=TINY)], tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_cell_survives_json(small):
    cell = Cell(name="a", data=small, config=TINY, labels="auto", extra="a:b", options={"n": [1, 2]})
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))) == cell
    assert cell.expected_epochs == 1
    assert dataclasses.replace(cell, config=TrainingConfig(max_epochs=20)).expected_epochs == 20


def test_what_is_left_of_a_cell_that_was_taken_up_again(small, tmp_path):
    cells = [Cell(name="a", data=small, config=dataclasses.replace(TINY, epochs=60))]
    pool = CellPool(cells, [tmp_path], [(60, 16, 16, 3)], 1)
    pool._cost = [OVERHEAD + 600.0]  # ten epochs of a minute are left
    pool._workers = [SimpleNamespace(index=0, state=WorkerState("a", epochs=51, expected_epochs=60, begun=50))]
    assert pool._seconds_left([], 60.0) == pytest.approx(540 + OVERHEAD, rel=0.05)
    pool._workers[0].state = WorkerState("a", epochs=50, expected_epochs=60, begun=50)
    assert pool._seconds_left([], 0.0) == pytest.approx(600 + OVERHEAD, rel=0.05)


def test_results_without_a_run(small, tmp_path):
    assert epochs_done(tmp_path) == 0
    write_result(CellResult(Cell(name="a", data=small, config=TINY), tmp_path, "it broke", 1))
    assert json.loads((tmp_path / RESULT_NAME).read_text())["failed"] == "it broke"


SCRIPT = """
import sys
from pathlib import Path
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.workflows.cells import Cell, run_cells
config = TrainingConfig(epochs=int(sys.argv[3]), latent_dim=2, batch_size=4, device="cpu")
cells = [Cell(name="a", data=Path(sys.argv[1]), config=config, bootstrap=0)]
print("go", flush=True)
run_cells(cells, Path(sys.argv[2]), workers=1, on_progress=lambda p: print([w.stage for w in p.workers], flush=True))
"""


def workers_of(parent):
    """Process ids of the children of a process."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(small, tmp_path, how):
    words = [sys.executable, "-c", SCRIPT, str(small), str(tmp_path / "out"), "100000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            if "training" in line:
                break
        workers = workers_of(process.pid)
        assert workers
        process.send_signal(how)
        process.stdout.close()
        process.wait(30)
    assert eventually(lambda: not any(alive(pid) for pid in workers))
    assert not (tmp_path / "out/cells/a" / RESULT_NAME).exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_worker_that_is_killed_fails_its_cell_alone(small, tmp_path):
    cells = [
        Cell(name="a", data=small, config=dataclasses.replace(TINY, epochs=100_000), bootstrap=0),
        Cell(name="b", data=small, config=TINY, bootstrap=0),
    ]
    killed = []

    def on_progress(progress):
        if not killed and any(state.cell == "a" and state.epochs > 1 for state in progress.workers):
            killed.extend(workers_of(os.getpid()))
            for pid in killed:
                with contextlib.suppress(ProcessLookupError):  # ps lists itself
                    os.kill(pid, signal.SIGKILL)

    a, b = run_cells(cells, tmp_path, workers=1, on_progress=on_progress)
    assert "signal 9" in a.failed
    assert a.exit_code == 1
    assert b.failed is None
    # A death of that kind is no verdict on the training: it is tried again.
    (again,) = run_cells([dataclasses.replace(cells[1], name="c")], tmp_path)
    assert again.failed is None
