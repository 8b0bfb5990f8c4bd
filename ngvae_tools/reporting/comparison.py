"""Several analyses side by side, as rows of label and texts for the page and as tables for a terminal."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ngvae_tools.reporting import rules
from ngvae_tools.reporting.known import METRICS
from ngvae_tools.reporting.tables import add, paragraph, table
from ngvae_tools.reporting.words import ABSENT, count, decimals, folded, number, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from ngvae_tools.record import AnalysisRecord
    from ngvae_tools.reporting.sources import NamedAnalysis, Sources

_ABREAST = 2
"""Analyses that have a column each in a terminal; more have a row each."""

_WIDTH = 80

_NAME, _CELL, _COLUMN = 14, 13, 22
"""Characters in a line: of a name and of a text in a row of its own, and of either in a column of its own."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is compared.

    Attributes:
        label: Its name in a row of its own.
        head: Its name over a column in a terminal, lines apart.
        text: What it is of an analysis.
        words: Whether that is a word, not a number.
    """

    label: str
    head: str
    text: Callable[[AnalysisRecord], str]
    words: bool = False


_TABLE_I = (
    Measure("entropy", "entropy", lambda r: number(r.metrics.entropy)),
    Measure("decorrelation (absolute)", "decorr.\nabs.", lambda r: number(r.metrics.decorrelation)),
    Measure(
        "decorrelation (signed: the paper's reading)",
        "decorr.\nsigned",
        lambda r: number(r.metrics.decorrelation_signed),
    ),
    Measure("total correlation", "total\ncorr.", lambda r: number(r.metrics.total_correlation)),
    Measure("informative", "inform.", lambda r: str(r.selection.count)),
    Measure("by the rule", "rule", lambda r: rules.head(r.selection), words=True),
    Measure("K", "K", lambda r: str(r.model.latent_dim)),
    Measure("images", "images", lambda r: count(r.data.n_images - r.data.n_rejected)),
)

_MORE = (
    Measure("family", "family", lambda r: plain(r.model.family), words=True),
    Measure("interval of the count", "interval\nof count", lambda r: rules.count_span(r.selection)),
    Measure(
        "intrinsic dimension (TwoNN)",
        "intrinsic\n(TwoNN)",
        lambda r: ABSENT if r.intrinsic_dimension is None else number(r.intrinsic_dimension.two_nn, 1),
    ),
    Measure("effective dimensions", "effective\ndims", lambda r: number(r.metrics.effective_dimensions)),
    Measure("participation ratio", "particip.\nratio", lambda r: number(r.metrics.participation_ratio)),
    Measure("decorrelation (correlation)", "decorr.\ncorr.", lambda r: number(r.metrics.decorrelation_correlation)),
)

_HEADS = {
    "beta_vae": "beta-\nVAE",
    "factor_vae": "Factor-\nVAE",
    "mig": "MIG",
    "dci_disentanglement": "DCI\ndisent.",
    "dci_completeness": "DCI\ncompl.",
    "dci_informativeness": "DCI\ninform.",
    "sap": "SAP",
    "modularity": "modul.",
}


def _known(name: str) -> Callable[[AnalysisRecord], str]:
    return lambda r: ABSENT if r.supervised is None else decimals(getattr(r.supervised, name))


_KNOWN = tuple(
    Measure(METRICS[name].partition(" (")[0].partition(":")[0], head, _known(name)) for name, head in _HEADS.items()
)


def comparison_rows(analyses: Sequence[NamedAnalysis]) -> list[tuple[str, list[str]]]:
    """Table I of the paper first, then what else can be compared: a label and one text for each analysis.

    A row that is n/a for all is left out, unless it belongs to Table I.
    """
    return [row for group in _groups(analyses) for row in [(m.label, _texts(m, analyses)) for m in group]]


def comparison_notes(analyses: Sequence[NamedAnalysis]) -> list[str]:
    """What a reader of the comparison must know: units, other data, why a number is n/a."""
    result = ["Entropy and total correlation are in nats; the ceiling of the entropy is ln K."]
    if len({named.record.data.fingerprint for named in analyses}) > 1:
        result.append("The analyses did not see the same data, so their numbers are not comparable one to one.")
    undefined = [plain(named.name) for named in analyses if None in dataclasses.astuple(named.record.metrics)]
    if undefined:
        result.append(f"A number is not defined in {', '.join(undefined)}: the notes of the analysis say why.")
    if any(ABSENT in texts for label, texts in comparison_rows(analyses) if label in {m.label for m in _KNOWN}):
        result.append(f"{ABSENT} of a metric against known factors: no labels were given, or the notes say why.")
    return result


def comparison_table(sources: Sources) -> RenderableType:
    """The paper's Table I first: a column an analysis up to two, above two a row an analysis; then the notes."""
    from rich.console import Group

    analyses = sources.analyses
    notes = [paragraph(note) for note in comparison_notes(analyses)]
    if len(analyses) <= _ABREAST:
        shown = table(["", *(folded(plain(named.name), _COLUMN) for named in analyses)], left=1)
        for label, texts in comparison_rows(analyses):
            add(shown, label, *(folded(text, _COLUMN) for text in texts))
        return Group(shown, *notes)
    parts: list[RenderableType] = []
    for group in _groups(analyses):
        parts += [_beneath(group, analyses), paragraph("")]
    return Group(*parts, *notes)


def _beneath(group: Sequence[Measure], analyses: Sequence[NamedAnalysis]) -> Table:
    heads = ["analysis", *(measure.head for measure in group)]
    lines = [
        [folded(plain(named.name), _NAME), *(folded(measure.text(named.record), _CELL) for measure in group)]
        for named in analyses
    ]
    columns = zip(heads, *lines, strict=True)
    width = sum(max(len(line) for cell in column for line in cell.split("\n")) for column in columns)
    # Two spaces between columns where they fit, so that no word is broken where they do not.
    gap = int(width + 2 * len(heads) <= _WIDTH)
    words = [place for place, measure in enumerate(group, 1) if measure.words]
    shown = table(heads, left=1, text=words, padding=(0, gap, 0, 0))
    for cells in lines:
        add(shown, *cells)
    return shown


def _groups(analyses: Sequence[NamedAnalysis]) -> list[list[Measure]]:
    """Measures that stand in one table, without those that are n/a for all."""
    more = [[m for m in group if set(_texts(m, analyses)) != {ABSENT}] for group in (_MORE, _KNOWN)]
    return [list(_TABLE_I), *(group for group in more if group)]


def _texts(measure: Measure, analyses: Sequence[NamedAnalysis]) -> list[str]:
    return [measure.text(named.record) for named in analyses]
