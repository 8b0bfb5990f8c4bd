"""Every figure of a report as files for a paper: SVG, PNG and the numbers as CSV, with a list of them.

A folder of figures is made as a whole, and replaced as a whole where it holds nothing but what its list names.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ngvae_tools.files import flush_to_disk, refuse_foreign, replacing_folder, unlisted
from ngvae_tools.reporting.bars import information_drawing, p_histograms_drawing, storage_drawing
from ngvae_tools.reporting.curves import thresholds_drawing, truncation_drawing
from ngvae_tools.reporting.drawing import Drawing
from ngvae_tools.reporting.figures import loss_drawing, p_drawing
from ngvae_tools.reporting.heatmap import correlation_drawing, covariance_drawing, factor_drawing
from ngvae_tools.reporting.matches_figure import stability_drawing
from ngvae_tools.reporting.picture_figures import picture_drawings
from ngvae_tools.reporting.svg import file_png, file_svg, style
from ngvae_tools.reporting.sweep_figure import sweep_drawing
from ngvae_tools.reporting.words import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ngvae_tools.reporting.drawing import Cell
    from ngvae_tools.reporting.sources import NamedAnalysis, NamedRun, Sources

LIST_NAME = "figures.csv"
"""The list of a folder's figures, a row each."""

LIST_HEADS = ("figure", "of", "shows", "caption")

ENDINGS = (".svg", ".png", ".csv")

_LONGEST = 60  # characters of a name that files take over

_GUARDED = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(frozen=True, slots=True)
class FigureFile:
    """A figure of a report as it lies in a folder.

    Attributes:
        name: Of its files, less their endings.
        of: What it is of: the name of an analysis, a run or a sweep; `all` where it shows several side by side.
        drawing: The figure.
    """

    name: str
    of: str
    drawing: Drawing


def figures_of(sources: Sources) -> list[FigureFile]:
    """Every figure that has data: first those that show all analyses, then those of each, of runs and of sweeps."""
    analyses = sources.analyses
    records, names = [a.record for a in analyses], [a.name for a in analyses]
    shared = [covariance_drawing(records, names), correlation_drawing(records, names)]
    shared.append(stability_drawing(sources.stability))
    kinds: list[list[tuple[str, list[Drawing | None]]]] = [
        [(named.name, _of_analysis(named)) for named in analyses],
        [(named.name, _of_run(named)) for named in sources.runs],
        [(named.name, [sweep_drawing(named.record)]) for named in sources.sweeps],
    ]
    found = [FigureFile(drawing.name, "all", drawing) for drawing in shared if drawing is not None]
    for kind in kinds:
        starts = file_names([name for name, _ in kind])
        for start, (name, drawings) in zip(starts, kind, strict=True):
            made = (drawing for drawing in drawings if drawing is not None)
            found += [FigureFile(f"{start}-{drawing.name}", name, drawing) for drawing in made]
    return found


def _of_analysis(named: NamedAnalysis) -> list[Drawing | None]:
    record = named.record
    return [
        information_drawing(record),
        p_histograms_drawing(record),
        thresholds_drawing(record),
        *picture_drawings(named.pictures),
        None if record.truncation is None else truncation_drawing(record.truncation),
        None if record.supervised is None else factor_drawing(record.supervised),
        storage_drawing(record.latents),
    ]


def _of_run(named: NamedRun) -> list[Drawing | None]:
    return [p_drawing(named), loss_drawing(named)]


def file_names(names: Sequence[str]) -> list[str]:
    """A start for the names of files for each name: ASCII letters, digits, `.`, `_` and `-`, each different.

    Names that differ in what a file name cannot hold, or in capitals alone, get a number.
    """
    taken: set[str] = set()
    result = []
    for name in names:
        start = re.sub(r"[^A-Za-z0-9._]+", "-", name)[:_LONGEST].strip("-.") or "unnamed"
        place, other = 2, start
        while other.lower() in taken:
            place, other = place + 1, f"{start}-{place}"
        taken.add(other.lower())
        result.append(other)
    return result


def refuse_figures(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place where something is; with `overwrite`, all but a folder that holds only figures of a report.

    Raises:
        OutputError: Something is there that may not be replaced.
    """
    refuse_foreign(
        folder,
        _foreign,
        overwrite=overwrite,
        own="figures of a report",
        allowed=f"a folder that holds only what its {LIST_NAME} names",
    )


def _foreign(folder: Path) -> str | None:
    found = unlisted(folder, LIST_NAME, _listed, "figures")
    return None if found is None else plain(found)


def _listed(path: Path) -> list[str] | None:
    """The files that the list of a folder's figures names; None: it is no such list."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        try:
            if tuple(next(reader, ())) != LIST_HEADS:
                return None
            return [f"{row[0]}{ending}" for row in reader if row for ending in ENDINGS]
        except csv.Error:
            return None


def write_figures(sources: Sources, folder: Path | str, *, overwrite: bool = False) -> list[FigureFile]:
    """Write each figure that has data as `NAME.svg`, `NAME.png` and `NAME.csv`, and `figures.csv`, which lists them.

    SVG and PNG are on white, in their size in print; the SVG has its text as outlines, the PNG has 300 dots an inch.
    The same sources give the same bytes on a machine. CSV is as RFC 4180 has it, in UTF-8; numbers have every digit
    that they have in the record. A spreadsheet would take text that begins with `=`, `+`, `-`, `@`, a tab or a carriage
    return for a formula: such text, and such as begins with an apostrophe, has an apostrophe before it.

    Returns:
        What was written.

    Raises:
        OutputError: Something is there that may not be replaced, or the folder cannot be written.
    """
    made = figures_of(sources)
    with replacing_folder(Path(folder), lambda there: refuse_figures(there, overwrite=overwrite)) as part:
        for file in made:
            for ending, data in _contents(file.drawing):
                _write(part / f"{file.name}{ending}", data)
        rows = [(file.name, file.of, file.drawing.label, file.drawing.caption) for file in made]
        _write(part / LIST_NAME, csv_of(LIST_HEADS, rows))
    return made


def _contents(drawing: Drawing) -> Iterator[tuple[str, bytes]]:
    with style():
        figure = drawing.draw()
        yield ".svg", file_svg(figure, drawing.label, drawing.caption).encode()
        yield ".png", file_png(figure)
    yield ".csv", csv_of(drawing.heads, drawing.rows())


def csv_of(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """A table as CSV (RFC 4180) in UTF-8; no value is an empty cell, and no text a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([_text(head) for head in heads])
    for row in rows:
        writer.writerow([_text(cell) for cell in row])
    return buffer.getvalue().encode()


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str):
        return f"'{cell}" if cell.startswith(_GUARDED) else cell
    return repr(cell)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    flush_to_disk(path)
