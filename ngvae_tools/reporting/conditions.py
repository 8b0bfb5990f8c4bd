"""Conditions on the numbers of a report, `NAME OP NUMBER`, for use in CI; stdlib only."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ngvae_tools.errors import ConditionError, OptionError
from ngvae_tools.reporting.quantities import ANALYSIS, MEANINGS, RUN, STABILITY, Quantity
from ngvae_tools.reporting.words import plain

if TYPE_CHECKING:
    from ngvae_tools.reporting.sources import Sources

T = TypeVar("T")

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_MEANT = {"=": "==", "===": "==", "=>": ">=", "=<": "<=", "<>": "!="}
_SIGN = "|".join(sorted((*OPERATORS, *_MEANT), key=len, reverse=True))
_CONDITION = re.compile(rf"\s*([A-Za-z_][\w.]*)\s*({_SIGN})\s*({_NUMBER})\s*", re.ASCII)

_LIST = "ngvae-tools report --fail-if help lists the names"


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a named number with a given one.

    Attributes:
        name: One of `MEANINGS`.
        sign: One of `OPERATORS`.
        number: What it is compared with.
        text: All of it, as it was given.
    """

    name: str
    sign: str
    number: float
    text: str

    def holds(self, value: float) -> bool:
        """Whether a value fulfils it."""
        return OPERATORS[self.sign](value, self.number)


def parse(text: str) -> Condition:
    """Read a condition such as `informative > 10`.

    Raises:
        OptionError: It is none, or names nothing that a report knows; the message says what may have been meant.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        signs = ", ".join(OPERATORS)
        raise _refused(
            text, f"NAME OP NUMBER, such as 'informative > 10', with OP one of {signs}", "another text", _LIST
        )
    name, sign, number = found.groups()
    if name not in MEANINGS:
        near = difflib.get_close_matches(name.lower(), MEANINGS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise _refused(text, "a name that a report knows", repr(name), hint + _LIST)
    if sign not in OPERATORS:
        meant = _MEANT[sign]
        raise _refused(text, f"one of {', '.join(OPERATORS)}", sign, f"write {meant}, as in '{name} {meant} {number}'")
    if not math.isfinite(float(number)):
        raise _refused(text, "a number that a double holds", number, "write a smaller one")
    return Condition(name, sign, float(number), " ".join(text.split()))


def names() -> str:
    """Every name that a condition may have, a line each, with its meaning."""
    width = max(len(name) for name in MEANINGS)
    return "".join(f"{name:<{width}}  {meaning}\n" for name, meaning in MEANINGS.items())


def _refused(text: str, expected: str, found: str, remedy: str) -> OptionError:
    return OptionError(f"--fail-if cannot check {plain(text)!r}", expected=expected, found=found, remedy=remedy)


def check(conditions: Iterable[Condition], sources: Sources) -> None:
    """Hold conditions against everything that a report shows.

    A condition holds where it holds for any analysis, or any run. One that cannot be checked, because nothing has the
    number, it is not defined, a source could not be read, or its latent file has changed since, counts as if it held:
    a check that is silently left out would pass for one that was made.

    Raises:
        ConditionError: One holds or cannot be checked; the message says which, of what, and with which value.
    """
    conditions = list(conditions)
    found = [sentence for condition in conditions for sentence in _failures(condition, sources)]
    if conditions:
        found += [f"no condition can be checked of what was left out: {text.rstrip('.')}" for text in sources.skipped]
    if any(condition.name not in RUN for condition in conditions):
        found += [f"no condition can be checked of {text.rstrip('.')}" for text in sources.stale]
    if found:
        raise ConditionError(
            "a condition of --fail-if holds or cannot be checked",
            expected="none",
            found="; ".join(found),
            remedy="everything asked for was written all the same",
        )


def _failures(condition: Condition, sources: Sources) -> Iterator[str]:
    name = condition.name
    if name in ANALYSIS:
        places = [(analysis.name, analysis.record) for analysis in sources.analyses]
        yield from _among(condition, ANALYSIS[name], places, "no analysis was named")
    elif name in RUN:
        runs = [(run.name, run.record) for run in sources.runs]
        yield from _among(condition, RUN[name], runs, "no training run was named")
    else:
        together = [("the analyses together", sources.stability)] if sources.stability is not None else []
        yield from _among(condition, STABILITY[name], together, "it takes several analyses")


def _among(condition: Condition, quantity: Quantity[T], places: list[tuple[str, T]], none: str) -> Iterator[str]:
    if not places:
        yield f"{condition.text} cannot be checked: {none}"
    for place, record in places:
        value = quantity.of(record)
        if value is None or math.isnan(value):
            why = quantity.needs if value is None else "it is not a number"
            yield f"{condition.text} cannot be checked of {plain(place)}, where {condition.name} has no value ({why})"
        elif condition.holds(value):
            yield f"{condition.text} holds for {plain(place)}, where {condition.name} is {_exact(value)}"


def _exact(value: float) -> str:
    """A value in as many digits as tell it from what it is compared with."""
    return f"{value:.0f}" if abs(value) < 1e15 and value == int(value) else repr(float(value))
