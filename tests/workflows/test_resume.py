"""Runs that were killed, and folders that two want: real processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from ngvae_tools import train
from ngvae_tools.errors import OutputError, TrainingDivergedError
from ngvae_tools.files import LOCK_NAME
from ngvae_tools.workflows.lock import locked
from ngvae_tools.workflows.run_folder import RUN_FILES

OPTIONS = {"epochs": 2, "latent_dim": 3, "device": "cpu", "batch_size": 32}


class KilledError(BaseException):
    """What nothing catches."""


def contents(folder):
    """Everything that must be the same, whatever happened on the way."""
    lines = [json.loads(line) | {"seconds": 0} for line in (folder / "history.jsonl").read_text().splitlines()]
    return lines, *((folder / name).read_bytes() for name in ("encoder.onnx", "decoder.onnx", "summary.json"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def whole(sprites, tmp_path_factory):
    return train(sprites, tmp_path_factory.mktemp("whole") / "run", **OPTIONS)


@pytest.fixture
def cut_run(sprites, tmp_path):
    """A run that was cut off in its second epoch."""

    def cut_off(progress):
        if progress.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(sprites, tmp_path / "run", on_progress=cut_off, **OPTIONS)
    return tmp_path / "run"


class TestResume:
    def test_the_same_command_goes_on(self, whole, cut_run, sprites):
        assert names(cut_run) == ["checkpoint.pt", "config.json", "history.jsonl"]
        seen = []
        run = train(sprites, cut_run, on_progress=seen.append, **OPTIONS)
        assert {progress.resumed for progress in seen} == {(1, 0)}
        assert {progress.epoch for progress in seen} == {2}
        assert contents(cut_run) == contents(whole.folder)
        assert names(cut_run) == names(whole.folder)
        assert run.config == whole.config

    @pytest.mark.slow
    def test_overwrite_too_goes_on_with_the_same_run(self, whole, cut_run, sprites):
        seen = []
        train(sprites, cut_run, overwrite=True, on_progress=seen.append, **OPTIONS)
        assert {progress.epoch for progress in seen} == {2}
        assert contents(cut_run) == contents(whole.folder)

    @pytest.mark.slow
    def test_options_that_say_the_same_are_the_same(self, cut_run, sprites):
        same = OPTIONS | {"objective": "adaptive", "beta": 1.0, "data_seed": 0, "device": "auto"}
        assert train(sprites, cut_run, **same).summary is not None

    def test_other_options_are_refused_and_named(self, cut_run, sprites):
        before = {path.name: path.read_bytes() for path in cut_run.iterdir()}
        there = json.loads(before["config.json"])["fingerprint"]
        with pytest.raises(OutputError, match=r"learning_rate was 0.001, seed was 0") as error:
            train(sprites, cut_run, **OPTIONS, learning_rate=1e-4, seed=3)
        assert there[:16] in error.value.found
        assert len(error.value.expected.split("fingerprint ")[1].split(",")[0]) == 16
        assert {path.name: path.read_bytes() for path in cut_run.iterdir()} == before

    def test_other_data_are_refused(self, cut_run, tmp_path):
        from ngvae_tools.datasets import write_sprites

        write_sprites(tmp_path / "other.h5", images=200, size=32, seed=7)
        with pytest.raises(OutputError, match="data was"):
            train(tmp_path / "other.h5", cut_run, **OPTIONS)

    @pytest.mark.slow
    def test_overwrite_replaces_another(self, cut_run, sprites):
        run = train(sprites, cut_run, overwrite=True, **OPTIONS | {"latent_dim": 2})
        assert run.config["options"]["latent_dim"] == 2
        assert "previous" not in names(cut_run)

    @pytest.mark.slow
    def test_a_run_without_a_checkpoint_starts_anew(self, whole, cut_run, sprites):
        (cut_run / "checkpoint.pt").unlink()
        train(sprites, cut_run, **OPTIONS)
        assert contents(cut_run) == contents(whole.folder)

    def test_a_run_that_was_killed_after_training_is_exported(self, whole, sprites, tmp_path, monkeypatch):
        import exporters.networks

        def killed(*arguments, **options):
            raise KilledError

        with monkeypatch.context() as patched:
            patched.setattr(exporters.networks, "export_model", killed)
            with pytest.raises(KilledError):
                train(sprites, tmp_path / "run", **OPTIONS)
        seen = []
        train(sprites, tmp_path / "run", on_progress=seen.append, **OPTIONS)
        assert seen == []
        assert contents(tmp_path / "run") == contents(whole.folder)

    @pytest.mark.parametrize("after", range(len(RUN_FILES)))
    def test_a_kill_while_a_finished_run_is_set_aside_loses_nothing(self, whole, tmp_path, after):
        import shutil

        from ngvae_tools.workflows.run_folder import set_aside

        folder = tmp_path / "run"
        shutil.copytree(whole.folder, folder)
        (folder / "previous").mkdir()
        for name in RUN_FILES[:after]:
            (folder / name).replace(folder / "previous" / name)
        set_aside(folder)
        assert names(folder / "previous") == sorted(RUN_FILES)

    def test_after_divergence_the_next_step_is_said(self, sprites, tmp_path):
        with pytest.raises(TrainingDivergedError, match=r"smaller --learning-rate.*--overwrite"):
            train(sprites, tmp_path / "run", **OPTIONS | {"learning_rate": 1e30})


class TestFilesOfOthers:
    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("text", ['{"my": "model"}', "[1]", "no json"])
    def test_a_config_of_something_else_is_never_replaced(self, sprites, tmp_path, text, overwrite):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(OutputError, match="no training wrote"):
            train(sprites, tmp_path, overwrite=overwrite, **OPTIONS)
        assert names(tmp_path) == ["config.json"]
        assert (tmp_path / "config.json").read_text() == text


class TestLock:
    def test_two_at_once(self, sprites, tmp_path):
        with locked(tmp_path / "run"), pytest.raises(OutputError, match=rf"in use.*process {os.getpid()} on .*since"):
            train(sprites, tmp_path / "run", **OPTIONS)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("content", [b"mine", b"\xff\x00\xfe", b"processes"])
    def test_a_file_of_someone_else_is_no_lock(self, tmp_path, content):
        (tmp_path / LOCK_NAME).write_bytes(content)
        with pytest.raises(OutputError, match="a file of that name that is no lock"), locked(tmp_path):
            pass
        assert (tmp_path / LOCK_NAME).read_bytes() == content

    @pytest.mark.parametrize("content", ["", "process 7 on elsewhere, since then\n"])
    def test_a_lock_that_was_left_is_taken_over(self, tmp_path, content):
        (tmp_path / LOCK_NAME).write_text(content)
        with locked(tmp_path):
            assert (tmp_path / LOCK_NAME).read_text().startswith(f"process {os.getpid()} on ")
        assert names(tmp_path) == []

    def test_it_dies_with_the_process(self, tmp_path):
        script = (
            "import sys, time\nfrom pathlib import Path\nfrom ngvae_tools.workflows.lock import locked\n"
            "with locked(Path(sys.argv[1])):\n    print('in', flush=True)\n    time.sleep(60)\n"
        )
        folder = tmp_path / "run"
        with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "in\n"
            with pytest.raises(OutputError, match=f"process {holder.pid} on"), locked(folder):
                pass
            holder.kill()
            holder.wait()
        assert names(folder) == [LOCK_NAME]
        with locked(folder):
            assert f"process {os.getpid()}" in (folder / LOCK_NAME).read_text()
        assert names(folder) == []

    def test_many_that_take_turns_never_meet(self, tmp_path):
        script = """
import sys, time
from pathlib import Path
from ngvae_tools.errors import OutputError
from ngvae_tools.workflows.lock import locked
folder, inside, done = Path(sys.argv[1]), Path(sys.argv[2]), 0
while done < 100:
    try:
        with locked(folder):
            with inside.open("x"):
                pass
            inside.unlink()
        done += 1
    except OutputError:
        pass
"""
        words = [sys.executable, "-c", script, str(tmp_path / "run"), str(tmp_path / "inside")]
        workers = [subprocess.Popen(words) for _ in range(3)]
        assert [worker.wait(timeout=100) for worker in workers] == [0, 0, 0]


KILLER = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from ngvae_tools import files, train
from ngvae_tools.training import loop
loop.REPORT_EVERY, loop.CHECKPOINT_SECONDS = 1, 0.0
data, folder, where, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def counted(function, before=None):
    def call(*arguments, **keywords):
        global count
        count -= 1
        if count == 0:
            (before or die)(*arguments)
            die()
        return function(*arguments, **keywords)
    return call

def half(state, path):
    save(state, path)
    os.truncate(path, path.stat().st_size // 2)

save = torch.save
if where == "write":
    torch.save = counted(save, half)
elif where == "rename":
    Path.replace = counted(Path.replace)
elif where == "step":
    loop.Trainer._train_step = counted(loop.Trainer._train_step)
elif where == "start":
    loop.Trainer.fit = counted(loop.Trainer.fit)
elif where == "export":
    import exporters.networks
    exporters.networks.export_sample_decoder = counted(exporters.networks.export_sample_decoder)
train(data, folder, epochs=2, latent_dim=3, device="cpu", batch_size=32)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("start", 1),
        ("step", 1),
        ("step", 5),
        ("step", 9),
        ("write", 1),
        ("write", 4),
        ("write", 6),
        ("rename", 1),
        ("rename", 3),
        ("rename", 10),
        ("rename", 11),
        ("rename", 12),
        ("rename", 18),
        ("rename", 19),
        ("export", 1),
    ],
)
def test_sigkill_at_a_chosen_moment(whole, sprites, tmp_path, where, count):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", KILLER, str(sprites), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.run([*command, where, str(count)], env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not (folder / "summary.json").exists()
    again = subprocess.run([*command, "nowhere", "0"], env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert contents(folder) == contents(whole.folder)
    assert names(folder) == names(whole.folder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_sigkill_again_and_again_at_random_moments(whole, sprites, tmp_path, seed):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", KILLER, str(sprites), str(folder), "nowhere", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    draw = random.Random(seed)
    kills = 0
    while kills < 4:
        process = subprocess.Popen(command, env=environment)
        until = time.monotonic() + 60
        while not (folder / LOCK_NAME).exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1.5))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
    assert kills >= 1
    if not (folder / "summary.json").exists():
        subprocess.run(command, env=environment, check=True)
    assert contents(folder) == contents(whole.folder)
    assert names(folder) == names(whole.folder)


@pytest.mark.slow
class TestCommand:
    WORDS = ("train", "--epochs", 4, "--latent-dim", 3, "--device", "cpu", "--output", "run")

    def test_interrupted_in_the_first_epoch(self, command_line, sprites, tmp_path):
        process = command_line.start(*self.WORDS, "--batch-size", 1, sprites)
        while not (tmp_path / "run/config.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        assert "there is no checkpoint yet; the same command starts anew" in err
        assert not (tmp_path / "run/checkpoint.pt").exists()

    def test_interrupted_later_and_resumed(self, command_line, sprites, tmp_path):
        process = command_line.start(*self.WORDS, "--batch-size", 4, sprites)
        while not (tmp_path / "run/checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "done); the same command goes on from there" in err
        done = command_line(*self.WORDS, "--batch-size", 4, sprites)
        assert done.returncode == 0
        assert "Going on from the checkpoint after " in done.stderr
        assert len((tmp_path / "run/history.jsonl").read_text().splitlines()) == 4
        assert command_line(*self.WORDS, "--batch-size", 4, sprites).returncode == 2
