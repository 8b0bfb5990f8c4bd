"""The command line of `sweep`: its options, its words, its exit codes."""

import json

import pytest

from ngvae_tools.cli.cells import duration
from ngvae_tools.sweep_record import FILE_NAME, SweepRecord


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--sigmas", "0.1,x"), "--sigmas cannot be read"),
        (("--sigmas", "0.1"), "--sigmas cannot be used"),
        (("--sigmas", "0.1,0.2", "--from", "0.1", "--to", "0.2"), "the noise levels cannot be told"),
        (("--from", "0.1"), "the noise levels cannot be told"),
        (("--levels", "3"), "the noise levels cannot be told"),
        (("--from", "0.5", "--to", "0.1"), "--from and --to cannot be used"),
        (("--restarts", "0"), "--restarts cannot be used"),
        (("--workers", "0"), "--workers cannot be used"),
        (("--model", "vae", "--objective", "paper"), "--objective cannot be used"),
    ],
)
def test_options_that_cannot_be_used(commands, sprites, words, named, tmp_path):
    result = commands("sweep", sprites, "-o", "OUT", *words)
    assert result.returncode == 2
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "OUT").exists()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 seconds"), (40, "40 seconds"), (89.9, "90 seconds"), (840, "14 minutes"), (9000, "2.5 hours")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.slow
def test_a_sweep_says_how_long_it_takes_shows_its_answer_and_is_reported(command_line, sprites, tmp_path):
    words = ("--from", 0.1, "--to", 0.4, "--levels", 2, "--restarts", 1, "--epochs", 1, "--latent-dim", 2)
    result = command_line("sweep", sprites, "-o", "OUT", *words, "--device", "cpu", "--log-file", "log")
    assert result.returncode == 0, result.stderr
    assert "2 trainings on" in result.stderr
    assert "by steps timed here just now" in result.stderr
    assert result.stderr.count("done in") == 2
    assert max(map(len, result.stdout.splitlines())) <= 80
    record = SweepRecord.read(tmp_path / "OUT")
    assert [level.sigma for level in record.levels] == [0.1, 0.4]
    assert "sigma-0.1-seed-0: done" in (tmp_path / "log").read_text()
    reported = command_line("report", "OUT", "--json")
    assert SweepRecord.from_json(reported.stdout) == record
    again = command_line("sweep", sprites, "-o", "OUT", *words)
    assert again.returncode == 2
    assert "a finished sweep" in again.stderr
    (tmp_path / "OUT" / FILE_NAME).unlink()
    quiet = command_line("sweep", sprites, "-o", "OUT", *words, "--device", "cpu", "--overwrite", "--quiet", "--json")
    assert quiet.stderr == ""
    assert json.loads(quiet.stdout)["levels"] == json.loads(record.to_json())["levels"]


@pytest.mark.slow
def test_everything_diverges(commands, sprites):
    words = ("--sigmas", "0.1,0.4", "--restarts", 1, "--epochs", 1, "--learning-rate", "1e30")
    result = commands("sweep", sprites, "-o", "OUT", *words)
    assert result.returncode == 6
    assert "no training of the sweep came to its end" in result.stderr
