"""How a report writes numbers and foreign text; stdlib only."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ABSENT = "n/a"


def plain(text: object) -> str:
    r"""Text with every character that is not printable as its escape, so that no terminal or page obeys it.

    Surrogate escapes of file names come out as `\udc80`: they cannot be written as UTF-8.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` decimals, in scientific notation where those would say nothing; n/a for None."""
    if value is None:
        return ABSENT
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        value = 0.0  # a negative zero would read as a negative number
    elif not min(10.0 ** (1 - digits), 0.1) <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:.{digits}f}"


def decimals(value: float | None) -> str:
    """Three decimals even where they are zeros, for numbers of which only the large ones matter."""
    return number(value) if value is None or abs(value) >= 1e5 else f"{value:.3f}"


def spread(mean: float | None, deviation: float | None) -> str:
    """Mean and standard deviation, `0.004 ± 0.021`; the deviation is n/a where there is none."""
    return ABSENT if mean is None else f"{mean:.3f} ± {ABSENT if deviation is None else f'{deviation:.3f}'}"


def span(ends: Sequence[float] | None, digits: int = 3) -> str:
    """An interval, `0.26 to 0.64`; n/a where there is none."""
    return ABSENT if ends is None else f"{number(ends[0], digits)} to {number(ends[1], digits)}"


def measured(value: float | None, error: float | None, digits: int = 3) -> str:
    """A number and its standard error, `2.31 ± 0.02`; the number alone where there is no error."""
    return number(value, digits) if value is None or error is None else f"{number(value, digits)} ± {error:.1g}"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def shortened(text: str, most: int) -> str:
    """Text of at most `most` characters, with an ellipsis where it was longer."""
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def listed(names: Sequence[str], most: int = 8, length: int = 40) -> str:
    """Foreign names, `long, round`; the first few of many, each cut where it is long."""
    shown = ", ".join(shortened(plain(name), length) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {count(len(names) - most)} more"


def plural(value: int, singular: str, several: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count(value)} {singular if value == 1 else several}"


def unfinished(adapted: object) -> str:
    """What a training says that ended before its prior weights were learned; empty of any other.

    Args:
        adapted: Share of that change which was done; 0 where the dimensions had not separated. None, or no number:
            the objective has no such change.
    """
    if not isinstance(adapted, int | float) or not adapted < 1:
        return ""
    if adapted <= 0:
        return (
            "The dimensions had not separated when the training ended, so no prior weights were learned: p rests where "
            "it does in objective mixture, and more epochs may change the count."
        )
    done = min(math.floor(100 * adapted), 99)
    return (
        f"The training ended after {done} % of the change to learned prior weights: p and the count are on their way, "
        "and more epochs may change them."
    )


def folded(text: str, width: int) -> str:
    """Text in lines of at most `width` characters, broken behind `/`, `-`, `_`, `.` and spaces where that is enough."""
    lines = [""]
    for part in re.findall(r"[^-/_. ]*[-/_. ]?", text):
        for start in range(0, len(part), width):
            piece = part[start : start + width]
            if len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested JSON as rows of dotted name and text."""
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in flat(inner, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list | tuple):
        return [(plain(prefix), ", ".join(plain(inner) for inner in value))]
    return [(plain(prefix), ABSENT if value is None else plain(value))]
