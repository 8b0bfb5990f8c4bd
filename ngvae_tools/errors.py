"""Errors that a user can act on: each names what was expected, what was found, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar


class NgvaeToolsError(Exception):
    """The base of every error that ngvae-tools raises on purpose.

    Args:
        problem: What is wrong, as the start of a sentence.
        expected: What would have been right.
        found: What was there instead.
        remedy: What the user can do about it.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problem: str, *, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{problem}: expected {expected}, found {found}; {remedy}.")
        self.problem = problem
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __reduce__(self) -> tuple[Callable[[str], NgvaeToolsError], tuple[str]]:
        # Exceptions unpickle from positional arguments alone, and worker processes send theirs pickled.
        rebuild = partial(type(self), expected=self.expected, found=self.found, remedy=self.remedy)
        return rebuild, (self.problem,)


class OptionError(NgvaeToolsError, ValueError):
    """An option or argument has a value that cannot be used."""


class DatasetError(NgvaeToolsError):
    """A data set cannot be opened or holds no usable image."""


class ContractError(NgvaeToolsError):
    """A model file does not follow the encoder file's contract."""


class RecordError(NgvaeToolsError):
    """An analysis record, a training run or a latent file cannot be read."""


class UnknownIdentifierError(NgvaeToolsError, KeyError):
    """A latent file has no image of that identifier."""

    __str__ = Exception.__str__


class OutputError(NgvaeToolsError):
    """A result cannot be written where it was asked for."""


class DeviceError(NgvaeToolsError):
    """The requested device cannot run the work."""


class MissingDependencyError(NgvaeToolsError, ImportError):
    """An optional package that this call needs is not installed."""


class UndefinedMetricError(NgvaeToolsError, ValueError):
    """A metric has no value for this input, for a reason that the message gives."""


class ExportError(NgvaeToolsError):
    """An exported file does not compute what the trained network computes."""

    exit_code: ClassVar[int] = 1


class ProcessesError(NgvaeToolsError):
    """Processes that train one model together have lost each other, or their models differ."""

    exit_code: ClassVar[int] = 1


class TooManyRejectedError(NgvaeToolsError):
    """More inputs could not be used than the user allows."""

    exit_code: ClassVar[int] = 4


class ConditionError(NgvaeToolsError):
    """A condition that the user set for failure holds, or cannot be checked."""

    exit_code: ClassVar[int] = 5


class TrainingDivergedError(NgvaeToolsError):
    """The training loss is no longer finite, or far above its best."""

    exit_code: ClassVar[int] = 6
