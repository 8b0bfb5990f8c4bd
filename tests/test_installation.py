"""The set-up that the README promises, from a fresh copy of the tracked files: slow, for it installs packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that git tracks or would track, in a new folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    folder = tmp_path / "checkout"
    for name in listed.stdout.split(b"\0"):
        source = ROOT / os.fsdecode(name)
        if name and source.is_file():
            target = folder / os.fsdecode(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=1500)


def _install(extras: str, checkout: Path) -> Path:
    bin_folder = checkout / "env" / "bin"
    for command in (
        [sys.executable, "-m", "venv", "env"],
        [str(bin_folder / "python"), "-m", "pip", "install", "-q", "-c", "constraints.txt", f".{extras}"],
    ):
        done = _run(command, checkout)
        assert done.returncode == 0, done.stderr
    return bin_folder


def test_cpu_extra_alone_selects_and_reports_without_torch(checkout):
    bin_folder = _install("[cpu]", checkout)
    assert _run([str(bin_folder / "python"), "-c", "import torch"], checkout).returncode != 0
    program = str(bin_folder / "ngvae-tools")
    select = _run(
        [program, "select-latents", "sample_data/encoder.onnx", "sample_data/sprites/", "-o", "OUT"], checkout
    )
    assert select.returncode == 0, select.stderr
    assert json.loads((checkout / "OUT/selection.json").read_text())["selection"]["count"] in {6, 7}
    report = _run([program, "report", "OUT", "--html", "report.html"], checkout)
    assert report.returncode == 0, report.stderr
    assert (checkout / "report.html").stat().st_size > 10_000
    train = _run([program, "train"], checkout)
    assert train.returncode == 2
    assert "pip install 'ngvae-tools[cpu,train]'" in train.stderr
    assert not (checkout / "sprites.h5").exists()
    doctor = _run([program, "doctor"], checkout)
    assert doctor.returncode == 0
    assert "torch is missing" in doctor.stdout


def test_without_onnxruntime_one_sentence_says_what_to_install(checkout):
    bin_folder = _install("", checkout)
    select = _run(
        [str(bin_folder / "ngvae-tools"), "select-latents", "sample_data/encoder.onnx", "sample_data/sprites/"],
        checkout,
    )
    assert select.returncode == 2
    (sentence,) = [line for line in select.stderr.splitlines() if line.startswith("Error:")]
    assert "onnxruntime is not installed" in sentence
    assert "pip install 'ngvae-tools[cpu]', or 'ngvae-tools[gpu]' for CUDA" in sentence
    assert not (checkout / "encoder-sprites").exists()


def test_make_demo_from_nothing(checkout):
    done = _run(["make", f"PYTHON={sys.executable}", "demo"], checkout)
    assert done.returncode == 0, done.stderr
    named = done.stdout.split("Files written:")[1].split()
    for name in ("sprites.h5", "run/encoder.onnx", "run/decoder.onnx", "selection/selection.json", "report.html"):
        assert f"demo/{name}" in named
        assert (checkout / "demo" / name).stat().st_size > 0
