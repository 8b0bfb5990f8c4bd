"""What is said of images that could not be used: how many, why, and an example, in bounded length; stdlib only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ngvae_tools.record import RejectionReason
from ngvae_tools.reporting.words import count, plain, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ngvae_tools.datasets import Rejection

SHOWN = 3
"""Reasons that are told; the images of all others are counted together."""

MAX_REASONS = 1000
"""Different reasons that are told apart; what comes after them counts for other reasons."""

_REASON, _NAME = 80, 40
"""Characters of a reason, and of an identifier, that are shown."""

_OF_SEVERAL = {"is": "are", "has": "have"}
"""Verbs whose plural is not the singular less its s."""


class RejectionTally:
    """Counts images that could not be used by reason, in bounded memory."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._whole: Counter[str] = Counter()
        self.total = 0

    def add(self, identifier: str, reason: str) -> None:
        """Count one image."""
        self.total += 1
        kind = _kind(reason)
        if kind in self._examples or len(self._examples) < MAX_REASONS:
            self._examples.setdefault(kind, identifier)
            self._counts[kind] += 1
        if reason in self._whole or len(self._whole) < MAX_REASONS:
            self._whole[reason] += 1

    def update(self, rejections: Iterable[Rejection]) -> None:
        """Count these."""
        for rejection in rejections:
            self.add(rejection.identifier, rejection.reason)

    @property
    def reasons(self) -> tuple[RejectionReason, ...]:
        """The most frequent reasons, the most frequent first; of equals, the one that came first."""
        return tuple(RejectionReason(kind, n, self._examples[kind]) for kind, n in self._counts.most_common(SHOWN))

    def in_full(self) -> str:
        """The reasons, and what is particular to the largest number of equal images; for an error."""
        said = reasons_text(self.reasons, self.total)
        reason, n = self._whole.most_common(1)[0]
        particular = reason.removeprefix(_kind(reason)).lstrip(":; ")
        return f"{said}; most often ({count(n)}): {plain(particular)}" if particular else said


def reasons_text(reasons: Sequence[RejectionReason], total: int) -> str:
    """`80 are of type uint16 where uint8 is expected (such as a.tif), 1 cannot be decoded (b.png)`.

    Args:
        reasons: The most frequent ones; the first few are told.
        total: How many images could not be used at all.
    """
    parts = []
    for reason in reasons[:SHOWN]:
        example = _brief(reason.example, _NAME, end=True)
        shown = example if reason.count == 1 else f"such as {example}"
        parts.append(f"{count(reason.count)} {_fault(reason)} ({shown})")
    left = total - sum(reason.count for reason in reasons[:SHOWN])
    if left > 0 and parts:
        parts.append(f"{count(left)} for other reasons")
    return ", ".join(parts)


def rejected_text(reasons: Sequence[RejectionReason], total: int, images: int | None = None) -> str:
    """`82 of 502 images (16 %) could not be used: ` and why, without a full stop.

    Args:
        reasons: The most frequent reasons; none: they are not known.
        total: How many images could not be used.
        images: Of how many; None: that is not known.
    """
    said = reasons_text(reasons, total)
    unused = f"{count(total)} of {plural(images, 'image', 'images')}" if images else plural(total, "image", "images")
    if images:
        unused += f" ({_percent(total / images)})"
    return f"{unused} could not be used{said and ': '}{said}"


def rejected_by_run(config: Mapping[str, Any]) -> str:
    """`rejected_text` of a training, by its config.json; empty where every image was used.

    Where most could not be used, the image that all others had to be like is named too.
    """
    data = config.get("data")
    data = data if isinstance(data, Mapping) else {}
    lines = data.get("rejected")
    lines = lines if isinstance(lines, list | tuple) else ()
    tally = RejectionTally()
    for line in lines:
        if isinstance(line, Mapping):
            tally.add(str(line.get("id")), str(line.get("reason")))
    if not tally.total:
        return ""
    images, first = data.get("n_images"), data.get("shape_from")
    known = images if type(images) is int and images >= tally.total else None
    text = rejected_text(tally.reasons, tally.total, known)
    if known is not None and 2 * tally.total > known and first is not None:
        text += f". Size and type are those of {_brief(first, _NAME, end=True)}, the first image that can be read"
    return text


def _percent(share: float) -> str:
    percent = 100 * share
    if percent < 0.1:
        return "less than 0.1 %"
    return f"{percent:.2g} %" if percent < 9.5 else f"{percent:.0f} %"


def _kind(reason: str) -> str:
    """A reason without what is particular to its image and without advice, see `Rejection`."""
    return reason.partition(": ")[0].partition("; ")[0]


def _fault(reason: RejectionReason) -> str:
    """A reason with its verb in the number of the images."""
    verb, space, rest = reason.reason.partition(" ")
    if reason.count != 1:
        verb = _OF_SEVERAL.get(verb, verb.removesuffix("s"))
    return _brief(f"{verb}{space}{rest}", _REASON)


def _brief(text: object, most: int, *, end: bool = False) -> str:
    """Text of so many characters at most, its beginning or, of a path, its end."""
    text = plain(text)
    if len(text) <= most:
        return text
    return f"...{text[3 - most :]}" if end else f"{text[: most - 3]}..."
