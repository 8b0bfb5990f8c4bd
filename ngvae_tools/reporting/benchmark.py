"""A benchmark as tables: Markdown for a page, 80 columns for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ngvae_tools.benchmark_record import BenchmarkData, BenchmarkRecord, BenchmarkRow, Summary, effective_sigma
from ngvae_tools.reporting.tables import add, paragraph, table, title
from ngvae_tools.reporting.words import ABSENT, count, folded, number, plain, plural

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED, WAITING = "failed", "not run"
"""In place of a figure where every cell of the row failed, or none has run."""

_NAME = 17


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a row.

    Attributes:
        name: Of the figure in `FIGURES`, or of an attribute of the row.
        head: Over the column; lines apart in a terminal.
        write: How a number is written.
    """

    name: str
    head: str
    write: Callable[[float], str]


def _fixed(digits: int) -> Callable[[float], str]:
    return lambda value: number(value, digits) if abs(value) >= 1e5 else f"{value + 0.0:.{digits}f}"


def _scientific(value: float) -> str:
    return f"{value:.2e}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _signed(value: float) -> str:
    return f"{value:+.1f}"


LATENTS = (
    Column("entropy", "entropy", _fixed(2)),
    Column("decorrelation", "decorr.\nabs.", _fixed(1)),
    Column("decorrelation_signed", "decorr.\nsigned", _fixed(1)),
    Column("beta_vae", "beta-VAE\nmetric", _fixed(2)),
    Column("factor_vae", "FactorVAE\nmetric", _fixed(2)),
    Column("mig", "MIG", _fixed(2)),
)
COUNTS = (
    Column("count", "inform.\nby rule", _fixed(1)),
    Column("count_information", "inform.\n> 0.1 nat", _fixed(1)),
    Column("near", "within 1\nof known", _percent),
    Column("drift", "drift\nwith K", _signed),
    Column("mse", "held-out\nMSE", _scientific),
    Column("mse_ratio", "MSE over\nVAE's", _fixed(2)),
    Column("seconds", "seconds", _fixed(0)),
)
MEANINGS = (
    Column("rest_p", "rest\nvalue of p", _fixed(3)),
    Column("crisp", "crisp p", _percent),
    Column("agreement", "p agrees with\ninformation", _percent),
)

_SHARES = {"near", "rest_p"}
"""Figures whose spread says nothing beside their mean."""


def markdown(record: BenchmarkRecord) -> str:
    """The tables as Markdown, with the command that made them."""
    parts = [f"`{record.command}` on {plain(record.device)}; mean ± standard deviation over seeds."]
    for data, latent_dim, rows in _groups(record):
        columns = _columns((*LATENTS, *COUNTS, *MEANINGS), rows)
        heads = ["model", "noise", *(column.head.replace("\n", " ") for column in columns)]
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
        for row in rows:
            cells = [_text(column, row, " ± ") for column in columns]
            lines.append([_label(record, row), _sigma(record, row), *cells])
        text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts += [f"**{_heading(data, latent_dim)}**", text, *_failures(rows)]
    noise = "Noise: sigma times the root of beta; models of equal noise weigh error against rate alike."
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return "\n\n".join([*parts, noise, *legend(record), *map(plain, record.notes), f"Versions: {versions}."]) + "\n"


def view(record: BenchmarkRecord) -> RenderableType:
    """The tables for a terminal."""
    from rich.console import Group

    parts: list[RenderableType] = []
    for data, latent_dim, rows in _groups(record):
        parts.append(title(_heading(data, latent_dim)))
        for group in (LATENTS, COUNTS, MEANINGS):
            columns = _columns(group, rows)
            shown = [row for row in rows if any(_text(column, row, "") != ABSENT for column in columns)]
            if not columns or not shown:
                continue
            made = table(["model", *(column.head for column in columns)], left=1)
            for row in shown:
                name = folded(plain(_label(record, row)), _NAME)
                add(made, name, *(_text(column, row, "\n±") for column in columns))
            parts += [made, paragraph("")]
        parts += [paragraph(text) for text in _failures(rows)]
    return Group(*parts, *(paragraph(text) for text in [*legend(record), *map(plain, record.notes)]))


def legend(record: BenchmarkRecord) -> list[str]:
    """What a reader must know of the columns."""
    texts = [
        "Entropy (nats) and decorrelation (absolute and signed sums) are of the covariance of mu.",
        (
            "Informative: by the rule that a model is made for (p for NGVAE, its own relevance for an ARD-VAE, else "
            "the posterior variance), and by information above 0.1 nat."
        ),
    ]
    if any(value.n < _ended(row) for row in record.rows for value in row.figures.values()):
        texts.append("(n of N): the figure is not defined in the other trainings; the notes of their analyses say why.")
    if any("mse" in row.figures for row in record.rows):
        texts.append("MSE: a pixel's, on held-out images, z drawn from the posterior.")
    if any("crisp" in row.figures for row in record.rows):
        texts.append("Crisp: share of dimensions with a mean p below 0.1 or within 0.05 of its rest value.")
    if any(row.drift is not None for row in record.rows):
        texts.append("Drift: mean count less that at the next smaller K.")
    return texts


def _groups(record: BenchmarkRecord) -> list[tuple[BenchmarkData, int | None, list[BenchmarkRow]]]:
    """Rows of one data set and K together; those that look for K stand alone."""
    groups: dict[tuple[str, int | None], list[BenchmarkRow]] = {}
    for row in record.rows:
        groups.setdefault((row.data, row.latent_dim), []).append(row)
    data = {each.name: each for each in record.data}
    return [(data[name], latent_dim, rows) for (name, latent_dim), rows in groups.items()]


def _heading(data: BenchmarkData, latent_dim: int | None) -> str:
    height, width, channels = data.image_shape
    known = ""
    if data.intrinsic is not None:
        low, high = data.intrinsic
        known = f", intrinsic dimension {low}" if low == high else f", intrinsic dimension {low} to {high}"
    which = "K sought" if latent_dim is None else f"K = {latent_dim}"
    return f"{plain(data.name)}: {count(data.n_images)} images of {height}x{width}x{channels}{known}; {which}"


def _columns(columns: Sequence[Column], rows: Sequence[BenchmarkRow]) -> list[Column]:
    """Those that some row has."""
    return [column for column in columns if any(_value(column, row) is not None for row in rows)]


def _value(column: Column, row: BenchmarkRow) -> Summary | None:
    if column.name in row.figures:
        return row.figures[column.name]
    single = getattr(row, column.name, None)
    return None if single is None else Summary(single, None, _ended(row))


def _text(column: Column, row: BenchmarkRow, between: str) -> str:
    value = _value(column, row)
    if value is None:
        return ABSENT if row.figures else FAILED if row.failures else WAITING
    text = column.write(value.mean)
    if value.sd is not None and column.name not in _SHARES:
        text += between + column.write(value.sd)
    ended = _ended(row)
    apart = "\n" if between.startswith("\n") else " "
    return text if value.n == ended else f"{text}{apart}({value.n} of {ended})"


def _ended(row: BenchmarkRow) -> int:
    """Cells of a row that have a result."""
    return row.cells - len(row.failures) - row.not_run


def _label(record: BenchmarkRecord, row: BenchmarkRow) -> str:
    label = str(record.models[row.model]["label"])
    for number_of, what in ((len(row.failures), FAILED), (row.not_run, WAITING)):
        if number_of:
            label += f" ({number_of} of {row.cells} {what})"
    return label


def _sigma(record: BenchmarkRecord, row: BenchmarkRow) -> str:
    return f"{effective_sigma(record.models[row.model]):.3g}"


def _failures(rows: Sequence[BenchmarkRow]) -> list[str]:
    found = [plain(failure) for row in rows for failure in row.failures]
    return [f"{plural(len(found), 'cell has', 'cells have')} no result. " + " ".join(found)] if found else []
