"""The report as GitHub-flavoured Markdown, for the summary of a CI job or a comment on a pull request; stdlib only.

Foreign text is either of characters that mean nothing in Markdown, or it stands in a code span, within which no HTML,
link, image, mention, reference or emoji is made of it; the two characters that could end a span or a cell are escaped.
GitHub takes comments of up to 65,536 characters, so long tables are folded and then cut, and say so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ngvae_tools.analysis.indices import indices
from ngvae_tools.reporting import columns, facts, progress, rules
from ngvae_tools.reporting.agreement import agreement
from ngvae_tools.reporting.comparison import comparison_notes, comparison_rows
from ngvae_tools.reporting.histogram import blocks
from ngvae_tools.reporting.stability import stability_headline, stability_notes, stability_rows
from ngvae_tools.reporting.sweep_view import HEADS, sweep_facts, sweep_rows
from ngvae_tools.reporting.sweep_words import headline as sweep_headline
from ngvae_tools.reporting.words import plain, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ngvae_tools.record import AnalysisRecord
    from ngvae_tools.reporting.sources import NamedAnalysis, NamedRun, NamedSweep, Sources

OPEN = 20
"""Rows of a table above which it is folded."""

ROWS = 240
"""Rows of dimensions in all tables together."""

LONGEST = 300
"""Characters of a foreign text that are shown."""

LEVELS = 120
"""Rows of noise levels in the tables of all sweeps together."""

MANY = 12
"""Analyses, runs, sweeps, notes and other sentences of a kind that are shown at most."""

# Letters of any script, digits, and punctuation of which Markdown and GitHub make nothing behind a letter or digit.
_INERT = re.compile(r"(?:-(?=\d))?[^\W_](?:[^\W_]|[- ,;.%()'=/+±≥·]|:(?= |$))*")
_MEANT = re.compile(r"www\.|\bGH-\d|^\d+[.)](?:\s|$)", re.IGNORECASE)


def words(text: str) -> str:
    """Foreign text as it is where nothing in it means anything, else in a code span."""
    text = plain(text)
    inert = len(text) <= LONGEST and _INERT.fullmatch(text) and not _MEANT.search(text)
    return text if inert else code(text)


def code(text: str) -> str:
    """Foreign text in a code span; what could end the span or a table's cell is written as its escape."""
    text = plain(text).replace("`", r"\x60").replace("|", r"\x7c")
    if len(text) > LONGEST:
        text = text[:LONGEST] + "..."
    return f"`{text}`" if text.strip() else "(empty)"


def markdown(sources: Sources) -> str:
    """All of a report: what is compared first, then a section an analysis, then runs and sweeps."""
    parts: list[str] = [_items(("Note", sentence) for sentence in sources.stale[:MANY])]
    several = len(sources.analyses) > 1
    if several:
        parts += [f"### Comparison of {len(sources.analyses)} analyses", *_comparison(sources)]
    for named in sources.analyses[:MANY]:
        parts += _analysis(named, most=max(ROWS // min(len(sources.analyses), MANY), 1), folded=several)
    parts += _more(len(sources.analyses), "analyses")
    if sources.runs:
        runs = sources.runs[:MANY]
        notes = [(code(run.name), note) for run in runs for note in progress.run_notes(run)]
        parts += ["### Training runs", _runs(runs), _items(notes), *_more(len(sources.runs), "runs")]
    for named_sweep in sources.sweeps[:MANY]:
        parts += _sweep(named_sweep, most=LEVELS // min(len(sources.sweeps), MANY))
    parts += _more(len(sources.sweeps), "sweeps")
    if sources.skipped:
        parts += ["### Skipped", "\n".join(f"- {words(sentence)}" for sentence in sources.skipped[:MANY])]
        parts += _more(len(sources.skipped), "that were skipped")
    return "\n\n".join(part for part in parts if part) + "\n"


def _more(number: int, what: str) -> list[str]:
    """What is said of those that there is no room for."""
    return [f"{number - MANY} more {what} are not shown here; the terminal and `--html` show all."] * (number > MANY)


def _notes(sentences: Sequence[str]) -> list[tuple[str, str]]:
    left = len(sentences) - MANY
    more = [("Notes", f"{left} more are not shown here")] if left > 0 else []
    return [*(("Note", sentence) for sentence in sentences[:MANY]), *more]


def _analysis(named: NamedAnalysis, *, most: int, folded: bool) -> list[str]:
    record = named.record
    selection = record.selection
    interval = (
        ""
        if selection.count_interval is None
        else f" ({rules.confidence(record)} interval {rules.count_span(selection)})"
    )
    chosen = [f"Informative by the rule {words(rules.rule_text(selection))}: **{words(indices(selection.indices))}**."]
    rows = [row for row in facts.verdict_rows(record) if row[0] not in {"Informative", "Rule"}]
    about = _pairs(facts.about_rows(record), "Images and compression")
    return [
        f"### {facts.headline(record)}{interval}: {code(named.name)}",
        " ".join([*chosen, *([words(said)] if (said := agreement(record)) else [])]),
        _items([*rows, *_notes(facts.notes(record))]),
        *_dimensions(record, most=most, folded=folded),
        _fold("Images and compression", about) if folded else about,
    ]


def _dimensions(record: AnalysisRecord, *, most: int, folded: bool) -> list[str]:
    """A row a dimension, informative ones first; folded where there are many."""
    shown = columns.first(record)
    bars = any(row.p_histogram is not None for row in record.dimensions)
    heads = ["dimension", "informative", *(column.head for column in shown)]
    if bars:
        heads.insert(2, "p over images, 0 to 1")
    lines = []
    for row in facts.ordered(record)[:most]:
        cells = [column.text(row) for column in shown]
        if bars:
            cells.insert(0, blocks(row.p_histogram))
        lines.append([str(row.index), "yes" if row.informative else "no", *cells])
    table = _table(heads, lines, words_in=2)
    left = len(record.dimensions) - len(lines)
    if left > 0:
        table += (
            f"\n\n{plural(left, 'dimension is', 'dimensions are')} left out here; the page of `--html` has them all."
        )
    summary = plural(len(record.dimensions), "dimension", "dimensions")
    return [_fold(summary, table)] if folded or len(lines) > OPEN else [table]


def _comparison(sources: Sources) -> list[str]:
    analyses = sources.analyses[:MANY]
    rows = [[label, *(words(text) for text in texts)] for label, texts in comparison_rows(analyses)]
    parts = [_table(["", *(code(named.name) for named in analyses)], rows, words_in=1)]
    parts += [_items(("Note", note) for note in comparison_notes(analyses))]
    if sources.stability is not None:
        rows_ = [row for row in stability_rows(sources.stability) if row[0] not in {"Models", "Informative"}]
        notes = _notes(stability_notes(sources.stability))
        parts += [f"**{words(stability_headline(sources.stability))}**", _items([*rows_, *notes])]
    return parts


def _runs(runs: Sequence[NamedRun]) -> str:
    """A row a run: how it stands, and the figures of its last epoch."""
    lines = []
    for run in runs:
        state = progress.state(run)
        if run.record.diverged is not None:
            state = f"diverged, {state}"
        epochs = run.record.epochs
        figures = (
            [f"{train} (held out {other})" for _, train, other in progress.figure_rows(epochs[-1])]
            if epochs
            else [""] * 4
        )
        count = f"{epochs[-1].informative} of {len(epochs[-1].posterior_variance)}" if epochs else ""
        lines.append([code(run.name), state, count, *figures])
    heads = ["run", "state", "informative", "loss, nats", "distortion, nats", "rate, nats", "mean squared error"]
    return _table(heads, lines, words_in=2)


def _sweep(named: NamedSweep, *, most: int) -> list[str]:
    """The answer of a sweep, a row a noise level, folded, and what was swept."""
    record = named.record
    lines = [
        [words(sigma), "yes" if inside else "no", *map(words, cells)] for inside, sigma, *cells in sweep_rows(record)
    ]
    heads = ["sigma", "on the plateau", *(head.replace("-\n", "").replace("\n", " ") for head in HEADS[1:])]
    table = _table(heads, lines[:most], words_in=2)
    if len(lines) > most:
        table += (
            f"\n\n{plural(len(lines) - most, 'level is', 'levels are')} left out here; the page of `--html` has all."
        )
    return [
        f"### Sweep over noise levels: {code(named.name)}",
        words(sweep_headline(record)),
        _items([*sweep_facts(record), *_notes(record.notes)]),
        _fold(plural(len(lines), "noise level", "noise levels"), table),
    ]


def _items(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {label}: {words(text)}" for label, text in rows)


def _pairs(rows: Sequence[tuple[str, str]], title: str) -> str:
    return _table([title, ""], [[label, words(text)] for label, text in rows], words_in=2)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, words_in: int) -> str:
    """A table of cells that are Markdown, the first `words_in` columns flush left."""
    marks = [":--" if place < words_in else "--:" for place in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def _fold(summary: str, body: str) -> str:
    # GitHub needs the blank lines to read Markdown inside.
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>" if body else ""
