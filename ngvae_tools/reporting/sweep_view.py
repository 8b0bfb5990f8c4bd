"""A sweep for a terminal of 80 columns; rich is imported where one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.reporting.sweep_words import headline
from ngvae_tools.reporting.tables import MARK, add, pairs, paragraph, table, title
from ngvae_tools.reporting.words import ABSENT, number, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ngvae_tools.reporting.facts import Rows
    from ngvae_tools.sweep_record import Level, SweepRecord

HEADS = ("sigma", "count", "by infor-\nmation", "TwoNN", "rate", "distortion", "MSE")

LEGEND = (
    f"{MARK} on the plateau. Count: informative dimensions, by the rule below, of the restart of least held-out loss; "
    "of all restarts in brackets. TwoNN: intrinsic dimension of the latent cloud, with its 95 % interval. Rate and "
    "distortion in nats."
)


def sweep_view(record: SweepRecord, name: str | None = None) -> RenderableType:
    """The answer, a row a level, the counts by every rule, and what a reader must know.

    Args:
        record: The sweep.
        name: What a report calls it.
    """
    from rich.console import Group

    answer = headline(record)
    parts: list[RenderableType] = [title(answer if name is None else f"{name}: sweep. {answer}")]
    levels = table(["", *HEADS], left=1, padding=(0, 1, 0, 0))
    for inside, *cells in sweep_rows(record):
        add(levels, MARK if inside else "", *cells)
    parts += [levels, paragraph(f"\n{LEGEND}"), title("Counts by every rule"), _rules(record)]
    parts += [paragraph(""), pairs(sweep_facts(record))]
    parts += [paragraph("")] if record.notes else []
    parts += [paragraph(plain(note)) for note in record.notes]
    return Group(*parts)


def sweep_rows(record: SweepRecord) -> list[tuple[str, ...]]:
    """A row a level: `*` on the plateau, else nothing, then cells as `HEADS` names them."""
    verdict = record.verdicts[0]
    plateaus = verdict.plateaus if verdict.answer is not None else ()
    return [
        (
            MARK if any(plateau.low <= level.sigma <= plateau.high for plateau in plateaus) else "",
            *_row(record, level),
        )
        for level in record.levels
    ]


def sweep_facts(record: SweepRecord) -> Rows:
    """What was swept, a label and a text each."""
    model = f"{record.options.get('model')}, {record.options.get('objective')}, K = {record.latent_dim}"
    return [
        ("Data", plain(record.data.get("path"))),
        ("Images", plain(record.data.get("n_images"))),
        ("Trainings", _trainings(record)),
        ("Model", plain(model)),
        ("Rule", plain(record.rule)),
    ]


def _row(record: SweepRecord, level: Level) -> list[str]:
    kept = level.kept
    if kept is None:
        return [f"{level.sigma:g}", "failed", *[ABSENT] * 5]
    every = [str(trial.counts.get(record.rule, "-")) for trial in level.trials]
    count = str(level.count(record.rule))
    two_nn = number(kept.two_nn, 1)
    if kept.two_nn_interval is not None:
        two_nn += " ({:.1f} to {:.1f})".format(*kept.two_nn_interval)
    return [
        f"{level.sigma:g}",
        f"{count} ({', '.join(every)})" if len(every) > 1 else count,
        str(level.count("information")),
        two_nn,
        number(kept.rate, 1),
        number(kept.distortion, 1),
        ABSENT if kept.mse is None else f"{kept.mse:.2e}",
    ]


def _rules(record: SweepRecord) -> RenderableType:
    names = list(dict.fromkeys(rule for level in record.levels if level.kept for rule in level.kept.counts))
    counts = table(["sigma", *names], left=1)
    for level in record.levels:
        add(counts, f"{level.sigma:g}", *(ABSENT if (n := level.count(rule)) is None else str(n) for rule in names))
    return counts


def _trainings(record: SweepRecord) -> str:
    trials = [trial for level in record.levels for trial in level.trials]
    failed = sum(trial.failed is not None for trial in trials)
    epochs = sorted({trial.epochs for trial in trials if trial.epochs is not None})
    spent = " to ".join(str(n) for n in dict.fromkeys((epochs[0], epochs[-1]))) if epochs else "0"
    return f"{len(trials)} of {spent} {'epoch' if spent == '1' else 'epochs'}" + (
        f", {failed} failed" if failed else ""
    )
