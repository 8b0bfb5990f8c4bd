"""Whether a value read from JSON is of the type that a dataclass declares; stdlib only."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints


def misfit(value: Any, hint: Any, name: str) -> str | None:
    """Where a value is not what a type says, by the dotted name of the first such part; None where all is.

    Knows dataclasses, tuples, mappings, unions, literals, and bool, int, float and str. A float is a finite number,
    whole or not; an int is no bool.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        found = [misfit(value, choice, name) for choice in inner]
        # The longest name is of the choice that fits best.
        return None if None in found else max((f for f in found if f is not None), key=len)
    if origin is tuple:
        return _misfit_in_tuple(value, inner, name)
    if origin is Mapping and isinstance(value, Mapping):
        return _first((v, inner[1], f"{name}.{key}") for key, v in value.items())
    if dataclasses.is_dataclass(hint) and isinstance(value, cast("type", hint)):
        return _first((getattr(value, field), h, f"{name}.{field}") for field, h in _fields(cast("type", hint)))
    return None if _is(value, hint) else name


def _misfit_in_tuple(value: Any, inner: tuple[Any, ...], name: str) -> str | None:
    if not isinstance(value, tuple):
        return name
    if inner[-1] is not Ellipsis:
        return (
            _first((v, hint, name) for v, hint in zip(value, inner, strict=True)) if len(value) == len(inner) else name
        )
    return _first((v, inner[0], name) for v in value)


def _first(parts: Any) -> str | None:
    return next((found for value, hint, name in parts if (found := misfit(value, hint, name)) is not None), None)


@functools.cache
def _fields(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _is(value: Any, hint: Any) -> bool:
    if hint is type(None):
        return value is None
    if hint in {int, float}:
        kinds = int if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and _finite(value)
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    return hint in {bool, str} and isinstance(value, hint)


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number of more digits than a double holds
        return False
