"""What a training run says over its epochs, ready for the terminal, the page and the figures; stdlib only."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from ngvae_tools.reporting.rejections import rejected_by_run
from ngvae_tools.reporting.words import ABSENT, count, flat, number, plural, unfinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ngvae_tools.reporting.facts import Rows
    from ngvae_tools.reporting.sources import NamedRun
    from ngvae_tools.run import EpochRecord, Figures

_END = {
    "schedule": "the paper's schedule",
    "epochs": "the number of epochs; the count of informative dimensions may still change",
}

BLOCKS = "▁▂▃▄▅▆▇█"


def score_name(epochs: Sequence[EpochRecord]) -> str:
    """What tells informative dimensions apart in a run: `p`, or `posterior variance` without p."""
    return "posterior variance" if not epochs or epochs[-1].p is None else "p"


def scores(epoch: EpochRecord) -> tuple[float, ...]:
    """Mean p of each dimension (near 0 = informative), or posterior variance without p; shape (K,)."""
    return epoch.posterior_variance if epoch.p is None else epoch.p


def informative(epoch: EpochRecord) -> frozenset[int]:
    """The epoch's informative dimensions, by their number and the rule, a threshold on the score."""
    by_score = sorted(range(len(scores(epoch))), key=lambda k: scores(epoch)[k])
    return frozenset(by_score[: max(epoch.informative, 0)])


def state(run: NamedRun) -> str:
    """Whether the run has finished, and how many epochs it has."""
    epochs = plural(len(run.record.epochs), "epoch", "epochs")
    return f"finished after {epochs}" if run.finished else f"unfinished, {epochs} so far"


def figure_rows(epoch: EpochRecord) -> list[tuple[str, str, str]]:
    """Loss, distortion, rate (nats) and mse of an epoch: label, training, held out."""

    def row(label: str, name: str, digits: int) -> tuple[str, str, str]:
        held_out: Figures | None = epoch.held_out
        other = ABSENT if held_out is None else number(getattr(held_out, name), digits)
        return label, number(getattr(epoch.train, name), digits), other

    return [
        row("loss (constants dropped), nats", "loss", 2),
        row("distortion, nats", "distortion", 2),
        row("rate (the objective's bound), nats", "rate", 2),
        row("mean squared error of a pixel", "mse", 5),
    ]


def epoch_rows(run: NamedRun) -> Rows:
    """The last epoch beside its losses: informative count, learning rate, seconds; how the run ended."""
    epochs = run.record.epochs
    last = epochs[-1]
    total = sum(epoch.seconds for epoch in epochs)
    summary = run.record.summary or {}
    return [
        ("Epoch", count(last.epoch)),
        *([("Ended by", _END[end])] if (end := summary.get("ended_by")) in _END else []),
        *([("Prior weights", told)] if (told := unfinished(summary.get("adapted"))) else []),
        ("Informative", f"{last.informative} of {len(last.posterior_variance)}"),
        ("Learning rate", f"{last.learning_rate:g}"),
        ("Seconds", f"{number(last.seconds, 1)} the last epoch, {number(total, 1)} in all"),
        *(
            (f"Export {name}", f"torch and onnxruntime differ by at most {export['max_abs_difference']:.1e}")
            for name, export in summary.get("exports", {}).items()
        ),
    ]


def run_notes(run: NamedRun) -> tuple[str, ...]:
    """What a reader must know of a run: which of its images could not be used."""
    rejected = rejected_by_run(run.record.config)
    return (f"{rejected}; config.json lists each.",) if rejected else ()


def config_rows(run: NamedRun) -> Rows:
    """The run's config.json as dotted names and texts; of the images that could not be used, how many and why.

    Of `identity`, which repeats the options as they were resolved, only what the options do not say.
    """
    config = dict(run.record.config)
    options, identity = config.get("options"), config.get("identity")
    if isinstance(options, Mapping) and isinstance(identity, Mapping):
        config["identity"] = {k: v for k, v in identity.items() if k not in options or options[k] != v}
    if rejected := rejected_by_run(config):
        config["data"] = {**config["data"], "rejected": f"{rejected}; config.json lists each"}
    return flat(config)


def bar(values: Sequence[float], top: float, width: int = 40) -> str:
    """Values over epochs as one line of blocks, at most `width`: the lowest is 0, the highest `top`."""
    steps = min(width, len(values))
    edges = [round(i * len(values) / steps) for i in range(steps + 1)] if steps else [0]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    return "".join(_block(mean / top if top > 0 else 0.0) for mean in means)


def _block(share: float) -> str:
    # A value that is not a number fails the comparison and leaves a gap.
    return BLOCKS[min(max(int(share * 8), 0), 7)] if -1e300 < share < 1e300 else " "
