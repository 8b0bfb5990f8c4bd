"""Errors say what to do, travel between processes, and have exit codes."""

import copy
import pickle

import pytest

from ngvae_tools import errors
from ngvae_tools.errors import NgvaeToolsError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, NgvaeToolsError)]
PARTS = {"expected": "a folder", "found": "nothing", "remedy": "name another place"}


@pytest.mark.parametrize("kind", CLASSES)
def test_the_sentence_holds_problem_expectation_finding_and_remedy(kind):
    error = kind("OUT cannot be written", **PARTS)
    assert str(error) == "OUT cannot be written: expected a folder, found nothing; name another place."
    assert {name: getattr(error, name) for name in PARTS} == PARTS


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_survive_pickling_and_copying(kind):
    error = kind("OUT cannot be written", **PARTS)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert (again.problem, again.expected, again.found, again.remedy) == (error.problem, *PARTS.values())


def test_exit_codes_are_those_of_the_design():
    codes = {kind.__name__: kind.exit_code for kind in CLASSES}
    assert {name: code for name, code in codes.items() if code != 2} == {
        "ExportError": 1,
        "ProcessesError": 1,
        "TooManyRejectedError": 4,
        "ConditionError": 5,
        "TrainingDivergedError": 6,
    }
    assert len(codes) >= 11


def test_values_that_python_knows_by_other_names_can_be_caught_so():
    assert issubclass(errors.OptionError, ValueError)
    assert issubclass(errors.MissingDependencyError, ImportError)
    assert issubclass(errors.UndefinedMetricError, ValueError)
