"""`ngvae-tools benchmark`, in processes of its own."""

import json

import pytest

from ngvae_tools.benchmark_record import BenchmarkData
from ngvae_tools.workflows.benchmark.plan import Plan


def test_help_names_what_it_takes(command_line):
    found = command_line.under(COLUMNS=200)("benchmark", "--help")
    assert found.returncode == 0
    for word in ("--preset", "--models", "--seeds", "--epochs", "--data", "--workers", "--table-only", "--output"):
        assert word in found.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--models", "vae,gan"], "'gan'"),
        (["--table-only", "--seeds", "2"], "--table-only trains nothing"),
        (["--table-only", "--preset", "quick", "--device", "cpu"], "found --preset, --device"),
        (["--table-only", "--overwrite"], "found --overwrite"),
        (["--table-only"], "holds no benchmark"),
        (["--dataset-key", "x"], "--dataset-key would do nothing"),
    ],
)
def test_what_cannot_be_used(commands, words, found):
    result = commands("benchmark", "--output", "B", *words)
    assert result.returncode == 2
    assert found in result.stderr
    assert "Traceback" not in result.stderr


def test_a_table_of_what_has_not_run(commands, tmp_path):
    data = (BenchmarkData("a", str(tmp_path / "a.h5"), "f", 10, (16, 16, 3), ("x",), (1, 1)),)
    (tmp_path / "B").mkdir()
    Plan("quick", "ngvae-tools benchmark", "cpu", data, {}, ()).write(tmp_path / "B")
    result = commands("benchmark", "--output", "B", "--table-only", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["data"][0]["intrinsic"] == [1, 1]
    assert "Wrote B/benchmark.json and B/table.md" in result.stderr


@pytest.mark.slow
def test_from_data_to_table_and_interrupted(command_line, sprites, tmp_path):
    words = ("benchmark", "-o", "B", "--data", sprites, "--models", "vae,default", "--epochs", 1, "--seeds", 1)
    result = command_line(*words, "--workers", 1, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "2 trainings on 1 worker: about" in result.stderr
    assert "NGVAE (our" in result.stdout
    assert max(map(len, result.stdout.split("\n"))) <= 80
    again = command_line(*words)
    assert again.returncode == 0
    assert again.stdout == result.stdout
    assert command_line("benchmark", "-o", "B", "--table-only").stdout == result.stdout
