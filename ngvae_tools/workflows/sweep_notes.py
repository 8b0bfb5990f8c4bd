"""What a reader of a sweep must know, in sentences; stdlib only."""

from __future__ import annotations

from collections.abc import Iterator

from ngvae_tools.reporting.sweep_words import distinct_counts, no_plateau
from ngvae_tools.reporting.words import plural, unfinished
from ngvae_tools.sweep_record import Level, Plateau, SweepRecord, Verdict

SETTLED = 5
"""Epochs at the end during which a count should not have changed."""


def sweep_notes(record: SweepRecord) -> tuple[str, ...]:
    """Sentences on the answer, on what limits it, and on what failed."""
    return (*_answers(record), *_limits(record), *_failures(record))


def _answers(record: SweepRecord) -> Iterator[str]:
    for verdict in record.verdicts:
        if verdict.answer is not None:
            yield from _answer(record, verdict, verdict.answer)
        elif verdict.plateaus:
            counts = " and ".join(str(count) for count in distinct_counts(verdict))
            yield f"By {verdict.rule}, {counts} hold over equally wide ranges of sigma: there is no one answer."
        else:
            yield (
                f"By {verdict.rule} the count has no plateau: {no_plateau(record, verdict)}, so none can be called the "
                f"data's own on these levels.{_way_on(record, verdict)}"
            )
    first, *others = [verdict.answer for verdict in record.verdicts]
    if first is None:
        for verdict in record.verdicts[1:]:
            if verdict.answer is not None:
                low, high = verdict.answer.low, verdict.answer.high
                number = plural(verdict.answer.count, "dimension holds", "dimensions hold")
                yield f"By {verdict.rule}, {number} from sigma {low:g} to {high:g}."
    if first is not None and any(other is not None and other.count != first.count for other in others):
        yield "The rules do not agree on the count; `information` measures what a dimension carries."
    elif first is not None:
        carrying = sorted(
            {count for level in _inside(record, first) if (count := level.count("information")) is not None}
        )
        if carrying and carrying != [first.count]:
            yield (
                f"On the plateau by {record.verdicts[0].rule}, `information`, which measures what a dimension carries, "
                f"counts {' and '.join(map(str, carrying))}, not {first.count}."
            )


def _way_on(record: SweepRecord, verdict: Verdict) -> str:
    """What to try where the sweep missed the range that matters."""
    counts = {level.count(verdict.rule) for level in record.levels} - {None}
    if counts == {record.latent_dim}:
        return " Try a larger --latent-dim, or higher levels."
    return " Try lower levels." if counts == {0} else ""


def _answer(record: SweepRecord, verdict: Verdict, plateau: Plateau) -> Iterator[str]:
    for other in verdict.plateaus[1:]:
        yield (
            f"The plateau by {verdict.rule} is interrupted: {other.count} also holds from {other.low:g} to "
            f"{other.high:g}."
        )
    if plateau.levels == 2:
        yield (
            f"The plateau by {verdict.rule} lies on two levels only: more levels from sigma {plateau.low:g} to "
            f"{plateau.high:g} would confirm or end it."
        )
    for end, place, side in (
        (plateau.low, record.levels[0].sigma, "lower"),
        (plateau.high, record.levels[-1].sigma, "higher"),
    ):
        if end == place:
            yield f"The plateau by {verdict.rule} reaches the end of the sweep: {side} levels would show where it ends."
    spans = [level.kept.two_nn_interval for level in _inside(record, plateau) if level.kept is not None]
    known = [span for span in spans if span is not None]
    if known and not any(low <= plateau.count <= high for low, high in known):
        low, high = min(low for low, _ in known), max(high for _, high in known)
        yield (
            f"The intrinsic dimension of the latent cloud on the plateau by {verdict.rule}, {low:.1f} to {high:.1f} by "
            f"TwoNN, does not contain {plateau.count}: a circle takes two dimensions and a category up to its values "
            "less one, and TwoNN errs downwards in high dimensions."
        )


def _inside(record: SweepRecord, plateau: Plateau) -> list[Level]:
    return [level for level in record.levels if plateau.low <= level.sigma <= plateau.high]


def _limits(record: SweepRecord) -> Iterator[str]:
    if rejected := record.data.get("rejected"):
        yield f"{rejected}; config.json of each training lists them."
    without = [level.sigma for level in record.levels if level.kept is not None and level.kept.two_nn is None]
    if without:
        at = ", ".join(f"{sigma:g}" for sigma in without)
        yield f"At sigma {at} there is no intrinsic dimension: the analyses in the folder cells say why."
    for level in record.levels:
        kept = level.kept
        if kept is None:
            yield f"At sigma {level.sigma:g} no training came to its end."
            continue
        if kept.epochs is not None and kept.epochs < SETTLED:
            yield (
                f"At sigma {level.sigma:g} the training ended after {plural(kept.epochs, 'epoch', 'epochs')}, too few "
                "to tell whether the count has settled."
            )
        elif kept.settled is not None and kept.epochs is not None and kept.settled < SETTLED:
            yield (
                f"At sigma {level.sigma:g} the count still changed within the last {SETTLED} of "
                f"{plural(kept.epochs, 'epoch', 'epochs')}: more --epochs may change it."
            )
        if told := unfinished(kept.adapted):
            yield f"At sigma {level.sigma:g}: {told}"
        counts = [trial.counts[record.rule] for trial in level.trials if record.rule in trial.counts]
        if len(set(counts)) > 1:
            yield (
                f"At sigma {level.sigma:g} restarts differ ({', '.join(map(str, counts))} by {record.rule}); that of "
                "the least loss stands for the level."
            )


def _failures(record: SweepRecord) -> Iterator[str]:
    for level in record.levels:
        for trial in level.trials:
            if trial.failed is not None:
                yield f"{trial.cell} failed: {trial.failed}"
