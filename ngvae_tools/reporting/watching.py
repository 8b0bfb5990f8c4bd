"""A running training in a terminal: what its folder says now, as lines that fit; stdlib only."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ngvae_tools.reporting import progress
from ngvae_tools.reporting.tables import MARK, extent
from ngvae_tools.reporting.words import ABSENT, number, plain, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ngvae_tools.run import EpochRecord, RunRecord

State = Literal["waiting", "training", "finished", "diverged", "stopped", "unknown"]

_RECENT = 5
"""Last epochs whose mean duration tells the speed."""

_BAR = 8
"""Characters of a dimension's history."""

_LINE = 24
"""Characters of a figure's history at most."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A run folder at one moment.

    Attributes:
        folder: The folder.
        record: What the training has written; None while there is nothing.
        holder: The process that trains in it, in its own words; None where none does.
        idle: Seconds since the last epoch was written.
        unknown: Why it cannot be known whether a process trains in it; None where it is known.
    """

    folder: Path
    record: RunRecord | None
    holder: str | None
    idle: float = 0.0
    unknown: str | None = None

    @property
    def state(self) -> State:
        """How the training stands; `stopped` is one that has neither finished nor a process."""
        if self.record is None:
            return "waiting"
        if self.record.summary is not None:
            return "finished"
        if self.holder is not None:
            return "training"
        if self.record.diverged is not None:
            return "diverged"
        return "stopped" if self.unknown is None else "unknown"

    @property
    def epochs(self) -> tuple[EpochRecord, ...]:
        """The history so far."""
        return () if self.record is None else self.record.epochs


def sentence(glance: Glance) -> str:
    """How the training stands, in a sentence."""
    where, done = plain(glance.folder), plural(len(glance.epochs), "epoch", "epochs")
    return {
        "waiting": f"Waiting for a training in {where}: there is nothing of one yet.",
        "training": f"Training in {where}: "
        + (f"{done} done." if glance.epochs else "waiting for the end of the first epoch."),
        "finished": f"The training in {where} has finished after {done}.",
        "diverged": f"The training in {where} has diverged after {done}: "
        f"{plain(None if glance.record is None else glance.record.diverged)}.",
        "stopped": f"The training in {where} has not finished and no process trains there: it was stopped or killed "
        f"after {done}. The command that began it goes on from its checkpoint.",
        "unknown": f"{done} done in {where}. Whether a process trains there cannot be known (its lock: "
        f"{plain(glance.unknown)}): it is watched until it has finished.",
    }[glance.state]


def epoch_line(epoch: EpochRecord) -> str:
    """An epoch in a line."""
    train, held_out = epoch.train, epoch.held_out
    other = "" if held_out is None else f"; held out: loss {held_out.loss:.1f}, MSE {held_out.mse:.2e}"
    return (
        f"Epoch {epoch.epoch}: loss {train.loss:.1f}, distortion {train.distortion:.1f}, rate {train.rate:.1f} nats; "
        f"informative {epoch.informative} of {len(epoch.posterior_variance)}{other}; {epoch.seconds:.1f} s."
    )


def lines(glance: Glance, width: int, height: int) -> list[str]:
    """The view: at most `height` lines of `width` characters; dimensions that find no room are summed up in one."""
    head = textwrap.wrap(sentence(glance), max(width, 1))
    if glance.holder:
        said = plain(glance.holder)
        head.append(said[:1].upper() + said[1:])
    if glance.epochs and glance.state == "unknown":
        head.append(f"Its last epoch was written {_duration(glance.idle)} ago.")
    if glance.epochs:
        head += [*_pace(glance), "", *_figures(glance.epochs, width), ""]
        head += _dimensions(glance.epochs, width, height - len(head))
    return [_cut(line, width) for line in head[:height]]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def _pace(glance: Glance) -> list[str]:
    """Speed and time left; learning rate and noise level."""
    assert glance.record is not None
    epochs, options = glance.epochs, glance.record.config.get("options", {})
    recent = epochs[-_RECENT:]
    each = sum(epoch.seconds for epoch in recent) / len(recent)
    speed = f"{1 / each:.2g} epochs/s" if 0 < each < 1 else f"{each:.1f} s an epoch"
    fixed, ceiling = options.get("epochs"), options.get("max_epochs")
    last = fixed if isinstance(fixed, int) else ceiling
    parts = [speed]
    if isinstance(last, int) and glance.state in {"training", "unknown"}:
        bound = "" if isinstance(fixed, int) else "at most "
        left = max((last - len(epochs)) * each - glance.idle, 0.0)
        parts = [f"epoch {len(epochs) + 1} of {bound}{last}", speed, f"{bound}{_duration(left)} left"]
        if len(epochs) >= last:
            parts = [f"all {last} epochs done, exporting", speed]
    lowered = [b.epoch - 1 for a, b in pairwise(epochs) if b.learning_rate < a.learning_rate]
    rate = f"learning rate {epochs[-1].learning_rate:g}"
    if lowered:
        rate += f", lowered after epoch {', '.join(map(str, lowered))}"
    sigma = epochs[-1].sigma
    return [", ".join(parts), rate + ("" if sigma is None else f"; sigma {sigma:.3g}")]


def _duration(seconds: float) -> str:
    if not seconds < 1e9:
        return ABSENT
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _figures(epochs: Sequence[EpochRecord], width: int) -> list[str]:
    """Loss parts of the last epoch, training beside held out, and the count; each over the epochs."""
    last = epochs[-1]
    room = min(width - 41, _LINE)
    rows = [("", "training", "held out", "")]
    for name, digits in (("loss", 2), ("distortion", 2), ("rate", 2), ("mse", 5)):
        other = "" if last.held_out is None else number(getattr(last.held_out, name), digits)
        history = [getattr(epoch.train, name) for epoch in epochs]
        rows.append((name, number(getattr(last.train, name), digits), other, _history(history, room)))
    counts = [epoch.informative for epoch in epochs]
    of = f"{last.informative} of {len(last.posterior_variance)}"
    rows.append(("informative", of, "", _history(counts, room, low=0.0)))
    return [f"{label:<11} {value:>12} {other:>12}   {bar}".rstrip() for label, value, other, bar in rows]


def _history(values: Sequence[float], room: int, low: float | None = None) -> str:
    """Values over epochs between their least and their largest."""
    known = [value for value in values if -1e300 < value < 1e300]
    if room < 4 or not known:
        return ""
    least = min(known) if low is None else low
    return progress.bar([value - least for value in values], max(known) - least, room)


def _dimensions(epochs: Sequence[EpochRecord], width: int, height: int) -> list[str]:
    """Histories of p, one a dimension, as many beside each other as fit, informative ones first."""
    last, name = epochs[-1], progress.score_name(epochs)
    scores = progress.scores(last)
    chosen = progress.informative(last)
    top = 1.0 if last.p is not None else max([1.0, *(v for v in scores if v < 1e300)])
    digits = len(str(max(len(scores) - 1, 0)))
    order = sorted(range(len(scores)), key=lambda k: (k not in chosen, k))
    cells = [
        f"{MARK if k in chosen else ' '} {k:>{digits}} "
        f"{progress.bar([progress.scores(epoch)[k] for epoch in epochs], top, _BAR):<{_BAR}} {scores[k]:5.3f}"
        for k in order
    ]
    abreast = max((width + 2) // (len(cells[0]) + 2), 1) if cells else 1
    legend = f"{name} of each dimension over epochs and now; near 0 = informative, marked {MARK}"
    rows = max(height - 1, 0)
    if len(cells) <= abreast * rows:
        shown, rest = len(cells), []
    else:
        shown = abreast * max(rows - 1, 0)
        left = order[shown:]
        others = f"{len(left)} others: {name} {extent(scores[k] for k in left)}"
        inside = sum(k in chosen for k in left)
        rest = [others + (f", {inside} of them informative" if inside else "")]
    return [legend, *("  ".join(cells[at : min(at + abreast, shown)]) for at in range(0, shown, abreast)), *rest]
