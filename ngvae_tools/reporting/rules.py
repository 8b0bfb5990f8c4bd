"""What the rules of an analysis say: their texts, where they agree, how a count hangs on its threshold; stdlib only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.analysis.indices import indices
from ngvae_tools.reporting.words import ABSENT, count, number, plain, span

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord, DimensionStatistics, Interval, Selection

GIVEN, TYPE = "given", "type"

TYPES = "passive", "mixed", "active"
"""Types of dimensions, by their score."""

_LISTED = 12
"""Dimensions that a sentence names one by one; of more it says how many they are."""

_SCORES = {
    "p": "mean p",
    "variance": "mean posterior variance",
    "active": "variance of mu",
    "rate": "rate above the floor",
    "information": "information",
    "snr": "signal-to-noise ratio",
}
_UNITS = {"rate": " nat", "information": " nat"}
_HEADS = {"information": "info"}
_STATISTICS = {
    "p": "p_mean",
    "variance": "posterior_variance",
    "active": "mu_variance",
    "rate": "rate",
    "information": "information",
    "snr": "snr",
}


def rule_text(selection: Selection) -> str:
    """The rule and its threshold, as in `mean p below 0.5`."""
    if selection.rule == GIVEN:
        return "dimensions named by the user or by another selection"
    if selection.rule == TYPE:
        return f"type {_types(selection)}"
    return f"{score_name(selection.rule)} {_side(selection)} {selection.threshold:g}{_UNITS.get(selection.rule, '')}"


def rule_sentence(selection: Selection) -> str:
    """The rule within a sentence on a dimension, as in `its mean p is below 0.5`."""
    if selection.rule == GIVEN:
        return "the user or another selection named it"
    if selection.rule == TYPE:
        return f"its type is {_types(selection)}"
    score, side = score_name(selection.rule), _side(selection)
    return f"its {score} is {side} {selection.threshold:g}{_UNITS.get(selection.rule, '')}"


def score_name(rule: str) -> str:
    """What a rule judges by, in words."""
    return _SCORES.get(rule, plain(rule))


def head(selection: Selection) -> str:
    """The rule's name, short enough for a column of its own."""
    return _HEADS.get(selection.rule, plain(selection.rule))


def threshold_text(selection: Selection) -> str:
    """The threshold in the fewest characters, as in `<0.5`."""
    if selection.rule == GIVEN:
        return ""
    if selection.rule == TYPE:
        return "active" if selection.threshold > 1 else "not passive"
    return f"{'<' if selection.keeps == 'below' else '≥'}{selection.threshold:.3g}"


def score_text(selection: Selection, k: int) -> str:
    """The score of dimension k by a rule, as a table's cell has it."""
    score = selection.score[k]
    if selection.rule == TYPE:
        return TYPES[int(score)] if score in {0, 1, 2} else number(score)
    if selection.rule == GIVEN:
        return "named" if selection.informative[k] else "not named"
    return number(score)


def rules_of(record: AnalysisRecord) -> list[Selection]:
    """The record's selection first, then every other rule."""
    return [record.selection, *(rule for rule in record.rules if rule.rule != record.selection.rule)]


def patterns(record: AnalysisRecord) -> list[tuple[list[int], tuple[bool, ...]]]:
    """Dimensions of which all rules say the same, with the verdict of each rule; those of most marks first."""
    rules = rules_of(record)
    groups: dict[tuple[bool, ...], list[int]] = {}
    for k in range(record.model.latent_dim):
        groups.setdefault(tuple(rule.informative[k] for rule in rules), []).append(k)
    return sorted(((ks, marks) for marks, ks in groups.items()), key=lambda group: (-sum(group[1]), group[0]))


def agreement(record: AnalysisRecord) -> str:
    """Whether the rules name the same dimensions, and who does not, as a sentence; empty with a single rule."""
    chosen, *others = rules_of(record)
    if not others:
        return ""
    apart = [rule for rule in others if rule.informative != chosen.informative]
    if not apart:
        return f"All {len(others) + 1} rules name the same dimensions."
    same = len(others) + 1 - len(apart)
    start = f"{same} of {len(others) + 1} rules name the same dimensions" if same > 1 else "The rules differ"
    told = "; ".join(f"{score_name(rule.rule)} {_difference(rule, chosen)}" for rule in apart)
    return f"{start}; {told}." if same > 1 else f"{start}: {told}, against {score_name(chosen.rule)}."


def _difference(rule: Selection, chosen: Selection) -> str:
    named, before = set(rule.indices), set(chosen.indices)
    parts = (("adds", named - before), ("leaves out", before - named))
    return " and ".join(
        f"{verb} {indices(ks) if len(ks) <= _LISTED else f'{count(len(ks))} dimensions'}" for verb, ks in parts if ks
    )


def votes(record: AnalysisRecord, k: int) -> str:
    """How many rules call dimension k informative, as in `6 of 7`."""
    chosen = rules_of(record)
    return f"{sum(rule.informative[k] for rule in chosen)} of {len(chosen)}"


def count_text(selection: Selection, record: AnalysisRecord) -> str:
    """The count with its interval, as in `7 of 15 (95 % interval 6 to 8)`."""
    text = f"{selection.count} of {len(selection.score)}"
    if selection.count_interval is None:
        return text
    return f"{text} ({confidence(record)} interval {count_span(selection)})"


def count_span(selection: Selection) -> str:
    """The interval of the count, n/a without a bootstrap."""
    ends = selection.count_interval
    if ends is None:
        return ABSENT
    return count(ends[0]) if ends[0] == ends[1] else f"{count(ends[0])} to {count(ends[1])}"


def confidence(record: AnalysisRecord) -> str:
    """The level of the bootstrap's intervals, as in `95 %`."""
    return f"{100 * (0.95 if record.bootstrap is None else record.bootstrap.confidence):g} %"


def plateau(selection: Selection) -> tuple[float | None, float | None] | None:
    """Between which thresholds the count stays the same; an end that does not exist is None.

    Returns:
        None where the rule has no threshold to move, or its verdicts are not those of its scores.
    """
    if selection.rule in {GIVEN, TYPE}:
        return None
    pairs = list(zip(selection.score, selection.informative, strict=True))
    under = [score for score, verdict in pairs if verdict == (selection.keeps == "below")]
    over = [score for score, verdict in pairs if verdict == (selection.keeps == "above")]
    low, high = max(under, default=None), min(over, default=None)
    if low is not None and high is not None and low > high:
        return None
    return low, high


def sensitivity(selection: Selection) -> str:
    """How the count hangs on the threshold, as in `7 for any threshold from 0.26 to 0.64`; else empty."""
    ends = plateau(selection)
    if ends is None or ends == (None, None):
        return ""
    low, high = ends
    if low is None:
        return f"{selection.count} for any threshold up to {number(high)}"
    if high is None:
        return f"{selection.count} for any threshold above {number(low)}"
    return f"{selection.count} for any threshold from {number(low)} to {number(high)}"


def score_interval(row: DimensionStatistics, rule: str) -> Interval | None:
    """Bootstrap interval of a dimension's score by a rule; None where there is none."""
    found = row.intervals.get(_STATISTICS.get(rule, ""))
    if found is None or rule != "rate":
        return found
    return None if row.rate_floor is None else (found[0] - row.rate_floor, found[1] - row.rate_floor)


def unsettled(record: AnalysisRecord) -> str:
    """Which dimensions' intervals span the threshold of the record's rule; empty where none does."""
    selection = record.selection
    spans = [(row.index, score_interval(row, selection.rule)) for row in record.dimensions]
    close = [(k, ends) for k, ends in spans if ends is not None and ends[0] < selection.threshold <= ends[1]]
    if not close:
        return ""
    if len(close) > 1:
        return f"dimensions {indices(k for k, _ in close)}: their intervals span the threshold"
    return f"dimension {close[0][0]}: its interval, {span(close[0][1])}, spans the threshold"


def _side(selection: Selection) -> str:
    return "below" if selection.keeps == "below" else "at least"


def _types(selection: Selection) -> str:
    return "active" if selection.threshold > 1 else "mixed or active"
