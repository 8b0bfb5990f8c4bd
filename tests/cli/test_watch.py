"""`report --watch` of real trainings, on a real terminal and piped."""

import contextlib
import dataclasses
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest
import records as build

from ngvae_tools.errors import RecordError
from ngvae_tools.files import LOCK_NAME
from ngvae_tools.reporting.sources import NamedRun
from ngvae_tools.reporting.terminal import run_view
from ngvae_tools.reporting.watching import lines, sentence
from ngvae_tools.workflows.lock import holder, locked
from ngvae_tools.workflows.watch import Watcher

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
LONG = 240
"""Seconds after which a test gives up waiting."""


class Screen:
    """A command on a terminal of its own, whose output is read all the time."""

    def __init__(self, command_line, *words, columns=80, rows=24):
        self._ours, theirs = pty.openpty()
        self._size(theirs, columns, rows)
        self.process = command_line.under(TERM="xterm-256color").start(
            *words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with contextlib.suppress(OSError):
            while part := os.read(self._ours, 65536):
                self.text += part.decode("utf-8", "replace")

    @staticmethod
    def _size(descriptor, columns, rows):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns, rows):
        self._size(self._ours, columns, rows)

    @property
    def frames(self):
        """What was drawn on the whole screen, each drawing a list of lines."""
        drawn = self.text.partition(ENTER)[2].partition(LEAVE)[0].split("\x1b[H")
        return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame).splitlines() for frame in drawn if "\n" in frame]

    @property
    def after(self):
        """What stands in the terminal when the screen has been given back."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text.partition(LEAVE)[2])

    def wait_for(self, text):
        end = time.monotonic() + LONG
        while text not in self.text:
            assert time.monotonic() < end, self.text[-2000:]
            time.sleep(0.02)

    def end(self):
        """Wait for the end: its exit code."""
        code = self.process.wait(LONG)
        self._reader.join(LONG)
        os.close(self._ours)
        return code


def training(command_line, sprites, *more):
    words = ("train", sprites, "-o", "run", "--latent-dim", "5", "--batch-size", "32", "-q", *more)
    return command_line.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def epochs_of(folder):
    history = folder / "run/history.jsonl"
    return history.read_text().count("\n") if history.exists() else 0


def wait_until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_training_from_before_its_start_to_its_end(command_line, sprites, tmp_path):
    screen = Screen(command_line, "report", "--watch", "run", "--every-seconds", "0.1")
    screen.wait_for("Waiting for a training in run")
    with training(command_line, sprites, "--epochs", "4") as trained:
        piped = command_line("report", "--watch", "run", "--every-seconds", "0.1")
        assert trained.wait(LONG) == 0
    assert screen.end() == 0
    lines = [json.loads(line) for line in (tmp_path / "run/history.jsonl").read_text().splitlines()]

    assert piped.returncode == 0
    assert "\x1b" not in piped.stdout + piped.stderr
    for line, epoch in zip(piped.stdout.splitlines(), lines, strict=True):
        assert line.startswith(f"Epoch {epoch['epoch']}: loss {epoch['train']['loss']:.1f}, ")
        assert f"informative {epoch['informative']} of 5; held out: loss {epoch['held_out']['loss']:.1f}" in line
    assert piped.stderr.splitlines()[-1] == "The training in run has finished after 4 epochs."

    assert screen.text.count(ENTER) == screen.text.count(LEAVE) == 1
    assert all(len(frame) <= 24 and max(map(len, frame)) <= 80 for frame in screen.frames)
    moving = ["\n".join(frame) for frame in screen.frames]
    assert any("Training in run: " in frame for frame in moving)
    assert any(re.search(rf"Process {trained.pid} on ", frame) for frame in moving)
    assert any(re.search(r"epoch [2-4] of 4, .*, 0:00:\d\d left", frame) for frame in moving)
    assert "run: training run, finished after 4 epochs" in screen.after
    assert f"{lines[-1]['train']['loss']:.2f}" in screen.after
    assert screen.after.rstrip().endswith("The training in run has finished after 4 epochs.")
    assert max(map(len, screen.after.splitlines())) <= 80


@pytest.mark.slow
def test_a_training_that_is_killed_ends_the_watching(command_line, sprites, tmp_path):
    with training(command_line, sprites, "--epochs", "500") as trained:
        wait_until(lambda: epochs_of(tmp_path) >= 1)
        screen = Screen(command_line, "report", "--watch", "run", "--every-seconds", "0.1")
        screen.wait_for("Training in run: ")
        screen.resize(50, 12)
        before = len(screen.frames)
        wait_until(lambda: len(screen.frames) > before + 3)
        trained.kill()
    assert (tmp_path / "run" / LOCK_NAME).exists()
    assert screen.end() == 130
    assert len(screen.frames[-1]) <= 12
    assert max(map(len, screen.frames[-1])) <= 50
    assert max(len(line) for frame in screen.frames[:before] for line in frame) > 50
    said = " ".join(screen.after.split())
    assert "has not finished and no process trains there" in said
    assert "run: training run, unfinished" in said


@pytest.mark.slow
def test_ctrl_c_ends_the_watching_alone(command_line, sprites, tmp_path):
    with training(command_line, sprites, "--epochs", "500") as trained:
        wait_until(lambda: epochs_of(tmp_path) >= 1)
        screen = Screen(command_line, "report", "--watch", "run")
        piped = command_line.start("report", "--watch", "run")
        screen.wait_for("Training in run: ")
        assert piped.stdout.readline().startswith("Epoch 1: ")
        for process in (screen.process, piped):
            process.send_signal(signal.SIGINT)
        assert screen.end() == 130
        _, err = piped.communicate(timeout=LONG)
        assert piped.returncode == 130
        for said in (screen.after.replace("\r\n", "\n"), err):
            assert said.split("\n")[-2:] == [
                "Interrupted: the watching of run alone; a training there goes on.",
                "",
            ]
            assert "Traceback" not in said
        assert screen.text.count(LEAVE) == 1
        assert trained.poll() is None
        trained.kill()


@pytest.mark.slow
def test_a_training_that_diverges(command_line, sprites):
    with training(command_line, sprites, "--epochs", "3", "--learning-rate", "1e30") as trained:
        found = command_line("report", "--watch", "run", "--every-seconds", "0.1")
        assert trained.wait(LONG) == 6
    assert found.returncode == 6
    assert "The training in run has diverged after 0 epochs: training diverged in epoch 1" in found.stderr


def test_what_has_ended_is_shown_at_once(commands, tmp_path):
    build.write_run(tmp_path / "done", build.epochs(3))
    build.write_run(tmp_path / "cut", build.epochs(2), finished=False)
    done, cut = commands("report", "--watch", "done"), commands("report", "--watch", "cut")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)
    assert (cut.returncode, len(cut.stdout.splitlines())) == (130, 2)


def test_a_line_that_is_half_written_is_left_out(commands, tmp_path):
    run = build.write_run(tmp_path / "run", build.epochs(3))
    history = run / "history.jsonl"
    history.write_text(history.read_text()[:-40])
    found = commands("report", "--watch", "run")
    assert (found.returncode, len(found.stdout.splitlines())) == (0, 2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder.write_text(""), "found a file"),
        (lambda folder: (folder / "cells/a/run").mkdir(parents=True), "such as thing/cells/a/run"),
        (build.write_analysis, "found an analysis"),
        (lambda folder: (folder.mkdir(), (folder / "config.json").write_text("{}")), "not a training run"),
    ],
)
def test_what_is_no_training_is_refused(command_line, tmp_path, make, said):
    make(tmp_path / "thing")
    found = command_line("report", "--watch", "thing", "--every-seconds", "0.1")
    assert (found.returncode, found.stdout) == (2, "")
    assert said in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    "more",
    [["--json"], ["--markdown"], ["out"], ["--html", "x.html"], ["--fail-if", "knee > 1"], ["--watch", "other"]],
)
def test_it_goes_alone(commands, more):
    found = commands("report", "--watch", "run", *more)
    assert (found.returncode, found.stdout) == (2, "")
    assert "--watch shows one training and nothing else" in found.stderr


def test_seconds_between_two_looks_belong_to_it(commands):
    found = commands("report", "out", "--every-seconds", "3")
    assert (found.returncode, found.stdout) == (2, "")
    assert "expected --watch RUN beside it" in found.stderr


def test_looking_at_a_lock_does_not_keep_a_training_out(tmp_path):
    (tmp_path / LOCK_NAME).write_text("process 1 on elsewhere, since ever\n")
    stop = threading.Event()
    seen = set()

    def look():
        while not stop.is_set():
            seen.add(holder(tmp_path))

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with locked(tmp_path):
                (tmp_path / "kept").touch()
                time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert any(text and text.startswith(f"process {os.getpid()} on ") for text in seen)
    assert holder(tmp_path) is None


def test_a_lock_that_only_lookers_hold_is_waited_for(tmp_path):
    (tmp_path / LOCK_NAME).touch()
    with (tmp_path / LOCK_NAME).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        later = threading.Timer(0.3, fcntl.flock, (looking, fcntl.LOCK_UN))
        later.start()
        with locked(tmp_path):
            assert not later.is_alive()
        later.join()


def test_looking_writes_nothing(small_disk):
    folder = small_disk(64)
    (folder / LOCK_NAME).write_text("process 7 on elsewhere, since ever\n")
    with (folder / LOCK_NAME).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        assert holder(folder) == "process 7 on elsewhere, since ever"
    assert holder(folder) is None


def test_what_no_lock_can_tell_is_unknown(commands, tmp_path, monkeypatch):
    run = build.write_run(tmp_path / "run", build.epochs(3), finished=False)
    (run / LOCK_NAME).mkdir()
    seen = Watcher(run).look()
    assert seen.state == "unknown"
    assert "cannot be known (its lock: Is a directory)" in sentence(seen)
    looks = []

    def passing(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            build.write_run(run, build.epochs(4))

    monkeypatch.setattr(time, "sleep", passing)
    found = commands("report", "--watch", "run")
    assert (found.returncode, len(found.stdout.splitlines())) == (0, 4)
    assert found.stderr.count("cannot be known") == 1


def test_a_path_that_cannot_be_looked_at(commands):
    found = commands("report", "--watch", "x" * 300)
    assert (found.returncode, found.stdout) == (2, "")
    assert "found File name too long; check the path" in found.stderr


ODD = (
    None,
    True,
    [],
    {},
    [1],
    "x",
    -1,
    10**400,
    float("nan"),
    float("-inf"),
    [None] * 3,
    ["x"] * 3,
    [float("nan")] * 3,
)
RAW = (b"", b"\x00\xff", b"{", b"null\n", b"[]\n", b"\n", b"{}\n", b"[" * 100_000 + b"\n")


def odd_files(run):
    """Each file that is watched, changed in one place: its name and bytes."""
    epoch = json.loads((run / "history.jsonl").read_bytes().splitlines()[0])
    config = json.loads((run / "config.json").read_bytes())
    summary = {"ended_by": "epochs", "exports": {"encoder.onnx": {"max_abs_difference": 1e-6}}}
    diverged = config | {"problem": "it", "found": "nan"}
    for name, body in (("summary.json", summary), ("diverged.json", diverged), ("config.json", config)):
        yield from ((name, raw) for raw in (*RAW, json.dumps(body).encode()[:-9]))
        for key in body:
            yield from ((name, json.dumps(body | {key: odd}).encode()) for odd in ODD)
    for odd in ODD:
        yield "config.json", json.dumps(config | {"options": {"epochs": None, "max_epochs": odd}}).encode()
    yield from (("history.jsonl", raw) for raw in RAW)
    for key in epoch:
        lines = (json.dumps(epoch | {key: odd}) + "\n" for odd in ODD)
        yield from (("history.jsonl", line.encode() * 2) for line in lines)


@pytest.mark.parametrize("gaussian", [False, True])
def test_whatever_is_in_the_files_gives_a_picture_or_a_clear_error(gaussian, tmp_path):
    run = build.write_run(tmp_path / "run", build.epochs(2, 3, 1, gaussian=gaussian), finished=False)
    whole = {path: path.read_bytes() for path in run.iterdir()}
    drawn = refused = 0
    for name, content in odd_files(run):
        (run / name).write_bytes(content)
        try:
            watcher = Watcher(run)
            for _ in range(4):  # it is patient
                seen = watcher.look()
            for glance in (seen, dataclasses.replace(seen, holder="process 1")):
                assert max(map(len, lines(glance, 80, 24))) <= 80
                assert sentence(glance)
            if seen.record is not None:
                run_view(NamedRun("run", run, seen.record))
            drawn += 1
        except RecordError:
            refused += 1
        (run / name).unlink()
        for path, before in whole.items():
            path.write_bytes(before)
    assert min(drawn, refused) > 50
