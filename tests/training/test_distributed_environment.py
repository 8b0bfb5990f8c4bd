"""The environment variables by which torchrun tells a process of the others."""

import pytest

from ngvae_tools import train
from ngvae_tools.errors import OptionError
from ngvae_tools.training.distributed import Ranks, processes

COMPLETE = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture
def variables(monkeypatch):
    def give(**values):
        for name in COMPLETE:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            if value is not None:
                monkeypatch.setenv(name, value)

    return give


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", None),
        ("RANK", ""),
        ("RANK", "first"),
        ("RANK", "2"),
        ("RANK", "-1"),
        ("WORLD_SIZE", "two"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", ""),
        ("LOCAL_RANK", "x"),
        ("LOCAL_RANK", "-1"),
        ("MASTER_PORT", None),
        ("MASTER_PORT", "http"),
        ("MASTER_PORT", "65536"),
    ],
)
def test_what_does_not_tell_of_the_others_is_refused_by_its_name(variables, tmp_path, name, value):
    variables(**COMPLETE | {name: value})
    with pytest.raises(OptionError, match=f"environment variable {name} .*torchrun") as refusal:
        train(tmp_path / "sprites.h5", tmp_path / "run", epochs=1)
    assert refusal.value.found == ("none" if value is None else repr(value))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"WORLD_SIZE": "1", "MASTER_ADDR": "localhost"},
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "two", "RANK": "x", "LOCAL_RANK": "y"},
        {"MASTER_ADDR": "localhost"},
    ],
)
def test_variables_of_others_leave_a_process_alone(variables, values):
    variables(**values)
    with processes() as ranks:
        assert ranks == Ranks()


@pytest.mark.parametrize("values", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2", "RANK": "x"}])
def test_the_command_says_so_too(command_line, values):
    run = command_line.under(MASTER_ADDR="localhost", **values)
    found = run("train", "sprites.h5", "--epochs", 1)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.splitlines()[-1].startswith("Error: the environment variable ")
