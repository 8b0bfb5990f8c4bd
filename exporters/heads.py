"""The heads among what a foreign encoder returns: which is mu, which is logvar or p, and of what family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from ngvae_tools.contract import Family, P
from ngvae_tools.errors import ExportError, OptionError
from ngvae_tools.inference.heads import LOG_VARIANCES, MEANS

Key = str | int
Dimensions = Literal["channel", "channel-position"]

NAME_THEM = "name the heads by name or position, such as heads=(0, 1) for (mu, logvar)"


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """Where the heads are in what a module returns.

    Attributes:
        mu: Name or position of the posterior mean.
        second: Name or position of logvar or p; None for deterministic codes.
        family: Law of the posterior.
    """

    mu: Key
    second: Key | None
    family: Family

    def pick(self, result: Any) -> tuple[Tensor, ...]:
        """The heads of one result, mu first."""
        fields = fields_of(result)
        return tuple(fields[key] for key in (self.mu, self.second) if key is not None)


def plan_heads(result: Any, heads: Sequence[Key] | None, family: str | None) -> HeadPlan:
    """Find the heads in what a module returned.

    Args:
        result: One result of the module.
        heads: Names or positions of mu and, if there is one, of the second head; None to go by known names, or by
            the order (mu, logvar or p).
        family: Law of the posterior; None: gaussian with two heads, deterministic with mu alone.

    Raises:
        ExportError: It cannot be told which head is which.
        OptionError: The family is unknown, or does not have as many heads as are named.
    """
    if family is not None and family not in get_args(Family):
        listed = ", ".join(get_args(Family))
        raise OptionError(
            "the family is unknown", expected=listed, found=repr(family), remedy="see ngvae_tools/posteriors.py"
        )
    fields = fields_of(result)
    if heads is not None:
        mu, second = _named(fields, heads)
    elif list(fields) == list(range(len(fields))):
        mu, second = _by_order(fields)
    else:
        mu, second = _by_name(fields, family)
    if family is None:
        if second == P:
            raise ExportError(
                f"the module returns {_listed(fields)}",
                expected="a family for p",
                found="none",
                remedy="say family='normal-gamma' or family='normal-gamma-mixture'",
            )
        return HeadPlan(mu, second, "deterministic" if second is None else "gaussian")
    if (family == "deterministic") != (second is None):
        wanted = "mu alone" if family == "deterministic" else "mu and a second head"
        raise _ambiguous(fields, f"{wanted} for family={family!r}")
    return HeadPlan(mu, second, family)  # type: ignore[arg-type]  # checked above


def check_heads(heads: Sequence[Any], batch: int) -> None:
    """Refuse heads that are not tensors (B, K) or (B, K, h, w) of one shape.

    Raises:
        ExportError: They are not.
    """
    expected = f"heads of one shape ({batch}, K), or ({batch}, K, rows, columns)"
    for head in heads:
        if not isinstance(head, Tensor):
            raise _unfit(expected, _text(head))
        if head.ndim not in {2, 4} or head.shape[0] != batch or 0 in head.shape or head.shape != heads[0].shape:
            raise _unfit(expected, " and ".join(_text(one) for one in heads))


def fields_of(result: Any) -> dict[Key, Any]:
    """What a module returned, by name where it has names, else by position.

    Raises:
        ExportError: It is neither a tensor, a mapping, a dataclass nor a sequence.
    """
    if isinstance(result, Tensor):
        return {0: result}
    if isinstance(result, Mapping):
        return dict(result)
    if hasattr(result, "_fields"):
        return dict(result._asdict())
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    if isinstance(result, list | tuple):
        return dict(enumerate(result))
    raise _unfit("mu, or (mu, logvar), or (mu, p), as tensors, a dict or a dataclass", f"a {type(result).__name__}")


def _named(fields: Mapping[Key, Any], heads: Sequence[Key]) -> tuple[Key, Key | None]:
    if isinstance(heads, str) or len(heads) not in {1, 2} or len(set(heads)) != len(heads):
        raise OptionError(
            "the heads cannot be used", expected="one or two names or positions", found=repr(heads), remedy=NAME_THEM
        )
    for key in heads:
        if key not in fields:
            raise _ambiguous(fields, f"a head {key!r}")
    return heads[0], heads[1] if len(heads) == 2 else None


def _by_order(fields: Mapping[Key, Any]) -> tuple[Key, Key | None]:
    if len(fields) not in {1, 2}:
        raise _ambiguous(fields, "mu, or (mu, logvar), or (mu, p)")
    return 0, 1 if len(fields) == 2 else None


def _by_name(fields: Mapping[Key, Any], family: str | None) -> tuple[Key, Key | None]:
    mus = [key for key in fields if _bare(key) in MEANS]
    seconds: list[Key] = []
    if family in {None, "gaussian"}:
        seconds = [key for key in fields if _bare(key) in LOG_VARIANCES]
    if P in fields and (family in {"normal-gamma", "normal-gamma-mixture"} or (family is None and not seconds)):
        seconds = [P]
    # A second head under a name that is not known, std or scale perhaps, must not pass for a deterministic code.
    alone = not seconds and (family == "deterministic" or len(fields) == 1)
    if len(mus) != 1 or not (len(seconds) == 1 or alone):
        raise _ambiguous(fields, "one output named mu and one named logvar, or p")
    return mus[0], seconds[0] if seconds else None


def _bare(key: Key) -> str:
    return "".join(c for c in str(key).lower() if c.isalnum())


def _ambiguous(fields: Mapping[Key, Any], expected: str) -> ExportError:
    return _unfit(expected, _listed(fields), NAME_THEM)


def _listed(fields: Mapping[Key, Any]) -> str:
    return ", ".join(f"{key} ({_text(value)})" for key, value in fields.items()) or "nothing"


def _text(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _unfit(expected: str, found: str, remedy: str = "wrap the module in one that returns its heads") -> ExportError:
    return ExportError("what the module returns cannot be exported", expected=expected, found=found, remedy=remedy)
