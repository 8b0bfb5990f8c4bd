"""README.md is true: its commands and Python blocks run, and the output it shows is what they print."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = [line[2:] for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
# Each trains two models and more, in processes of their own.
LONG = ("ngvae-tools sweep", "ngvae-tools benchmark")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder with the sample data, as in a checkout."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "sample_data", folder / "sample_data")
    return folder


@pytest.fixture(scope="module")
def slow(request: pytest.FixtureRequest) -> bool:
    """Whether slow tests of this file were asked for."""
    return any(item.path == request.path and item.get_closest_marker("slow") for item in request.session.items)


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=folder, check=False, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def outputs(
    folder: Path, slow: bool, commands_in: Callable[[Path], Callable[..., subprocess.CompletedProcess[str]]]
) -> dict[str, subprocess.CompletedProcess[str]]:
    """The console commands of the README, run in order.

    Where slow tests run, each in a process of its own, the long ones too, as nothing needs those; else in this one.
    """
    done = {}
    in_this_process = commands_in(folder)
    for command in CONSOLE:
        if command.startswith(LONG) and not slow:
            continue
        program, *arguments = shlex.split(command)
        assert program == "ngvae-tools"
        # Training gives stderr back to the process, so what it says is read from a process of its own.
        if slow or arguments[0] == "train":
            done[command] = _run([sys.executable, "-m", "ngvae_tools", *arguments], folder)
        else:
            done[command] = in_this_process(*arguments)
    return done


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=pytest.mark.slow if c.startswith(LONG) else ()) for c in CONSOLE]
)
def test_command_runs(command, outputs):
    assert outputs[command].returncode == 0, outputs[command].stderr


def test_shown_output_is_real(outputs):
    (shown,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    command = next(c for c in CONSOLE if c.startswith("ngvae-tools select-latents"))

    def comparable(text: str) -> list[str | float]:
        # A machine decides the speed, and library versions the file's size.
        lines = [line for line in text.splitlines() if not line.startswith(("Speed", "Latent file"))]
        return [_number_or_word(word) for line in lines for word in line.split()]

    real, said = comparable(outputs[command].stdout), comparable(shown)
    assert len(real) == len(said)
    for one, other in zip(real, said, strict=True):
        # Processors differ in the last digits.
        assert one == (pytest.approx(other, rel=0.02, abs=2e-3) if isinstance(other, float) else other)
    following = outputs[command].stderr.splitlines()[-1].removeprefix("Next: ")
    assert f"`{following}`" in " ".join(README.split())


def _number_or_word(word: str) -> str | float:
    try:
        return float(word.replace(",", ""))
    except ValueError:
        return word


@pytest.mark.parametrize("index", range(len(PYTHON)))
def test_python_block_runs(index, folder, slow):
    if slow:
        result = _run([sys.executable, "-c", PYTHON[index]], folder)
        assert result.returncode == 0, result.stderr
        assert result.stdout
        return
    shown = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(shown):
        exec(compile(PYTHON[index], f"block {index} of README.md", "exec"), {"__name__": "__main__"})
    assert shown.getvalue()


def test_every_command_is_documented():
    listed = _run([sys.executable, "-m", "ngvae_tools", "--help"], ROOT).stdout.split("Commands:")[1]
    commands = re.findall(r"^  ([\w-]+)", listed, re.MULTILINE)
    assert len(commands) >= 5
    assert [command for command in commands if f"ngvae-tools {command}" not in README] == []


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_places_in_the_equation_table_exist():
    rows = re.findall(r"^\| (?:Eq|Section|Table|Fig).*$", README, re.MULTILINE)
    assert len(rows) >= 10
    for row in rows:
        paths = re.findall(r"`((?:ngvae_tools|exporters)/[\w/.]+)`", row)
        assert paths, row
        code = "".join((ROOT / path).read_text(encoding="utf-8") for path in paths)
        for name in re.findall(r"`([A-Za-z_.]+)`", row):
            if "/" not in name:
                assert all(re.search(rf"(def|class) {part}\b", code) for part in name.split(".")), name
