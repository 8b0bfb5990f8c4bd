"""One self-contained page of everything the sources hold; jinja2 and matplotlib load when it is made."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.files import refuse_foreign, write_text
from ngvae_tools.reporting import comparison, facts, progress
from ngvae_tools.reporting.analysis_page import analysis_texts
from ngvae_tools.reporting.figures import correlation_heatmap, covariance_heatmap, loss_over_epochs, p_over_epochs
from ngvae_tools.reporting.heatmap import CAPTION, CORRELATION_CAPTION
from ngvae_tools.reporting.map_section import colours, gradient
from ngvae_tools.reporting.picture_sections import picture_view
from ngvae_tools.reporting.stability import (
    stability_headline,
    stability_matches,
    stability_notes,
    stability_rows,
    stability_tables,
)
from ngvae_tools.reporting.sweep_figure import CAPTION as SWEEP_CAPTION
from ngvae_tools.reporting.sweep_figure import sweep_svg
from ngvae_tools.reporting.sweep_view import HEADS, LEGEND, sweep_facts, sweep_rows
from ngvae_tools.reporting.sweep_words import headline as sweep_headline
from ngvae_tools.reporting.words import plain, plural

if TYPE_CHECKING:
    from ngvae_tools.analysis.stability import Stability
    from ngvae_tools.reporting.sources import NamedRun, NamedSweep, Sources

TEMPLATE = "template.html.jinja"

LIMIT = 5_000_000
"""Bytes of a page: images are made coarse enough for it, then figures are left out. Text alone may take more."""

_START = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="ngvae-tools report">
"""
"""How every page begins, and nothing else does."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_COUNTED = 6  # analyses whose counts fit in a title

_LEAST = 40_000
"""Bytes for the images of each analysis, for which figures are left out rather than they."""


def refuse_page(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where something is; with `overwrite`, all but a page of a report.

    Raises:
        OutputError: Something is there that may not be replaced.
    """
    a_folder = os.path.isdir(path)  # noqa: PTH112 - finds no fault with names that are too long
    refuse_foreign(
        path,
        _foreign,
        overwrite=overwrite,
        own="a page of a report",
        allowed="a page of a report",
        remedy=f"name a file in it, such as {path / 'report.html'}" if a_folder else "name another place",
    )


def _foreign(path: Path) -> str | None:
    """What lies at a place that no report wrote, in words; None where it is a page of one."""
    if not path.is_file():
        return "a folder" if path.is_dir() else "no file"
    with path.open("rb") as file:
        return None if file.read(len(_START)) == _START else "a file that is no page of a report"


def write_html(sources: Sources, path: Path | str) -> Path:
    """Write the page in one step, and return its path.

    The same sources give the same bytes. The page loads nothing, runs no script but its own and follows the reader's
    light or dark setting. Sections without data are absent.

    Raises:
        OutputError: The file cannot be written.
    """
    path = Path(path)
    write_text(path, page(sources))
    return path


def page(sources: Sources) -> str:
    """The page as text; every string of a record is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ngvae_tools.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template(TEMPLATE)
    view = _view(sources)
    shown = [named for named in sources.analyses if named.pictures]
    text = template.render(view)
    for what, leave_out in (("the figures of each analysis", _own_figures), ("the heat maps", _heat_maps)):
        if len(text.encode()) > LIMIT - _LEAST * len(shown):
            leave_out(view)
            why = f"To keep this page small, {what} are left out: report --figures DIR writes them as files."
            view["left_out"].append(why)
            text = template.render(view)
    if shown:
        # What is left for images is known once everything else is there.
        share = (LIMIT - len(text.encode()) - len(view["full_script"])) // len(shown)
        for named, texts in zip(sources.analyses, view["analyses"], strict=True):
            if named.pictures:
                texts["pictures"] = picture_view(named.record, named.pictures, share)
        view |= _scripted(view["full_script"])
        text = template.render(view)
    if larger := size_note(len(text.encode())):
        view["left_out"].append(larger)
        text = template.render(view)
    return text


def size_note(size: int) -> str:
    """Why a page of so many bytes is larger than it should be; empty where it is not."""
    if size <= LIMIT:
        return ""
    return f"This page takes more than {LIMIT / 1e6:g} MB, by its text and tables: name fewer analyses."


def _own_figures(view: dict[str, Any]) -> None:
    for analysis in view["analyses"]:
        analysis["thresholds"] = ""
        for part in filter(None, (analysis["truncation"], analysis["supervised"])):
            part["figure"] = ""


def _heat_maps(view: dict[str, Any]) -> None:
    view["covariance"] = view["correlation"] = ""


def _scripted(script: str) -> dict[str, Any]:
    """The script, and a policy that lets this one run and nothing else."""
    from markupsafe import Markup

    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {"script": Markup(script), "policy": f"{_POLICY}; script-src 'sha256-{digest}'"}  # noqa: S704


def _style() -> str:
    rules = [f".c{code} {{ fill: {colour}; }}" for code, colour in colours()]
    return "\n".join([_beside("page.css"), *rules, f".scale {{ background: {gradient()}; }}", ""])


def _beside(name: str) -> str:
    return files("ngvae_tools.reporting").joinpath(name).read_text(encoding="utf-8")


def _view(sources: Sources) -> dict[str, Any]:
    """All texts of the page; in the figures, markup of our own, matplotlib has escaped foreign text."""
    from markupsafe import Markup

    analyses = sources.analyses
    several = len(analyses) > 1
    compared = [a.record for a in analyses], [a.name for a in analyses]
    return {
        "policy": _POLICY,
        "style": Markup(_style()),  # noqa: S704
        "script": "",
        "full_script": _beside("page.js"),
        "contents": _contents(sources),
        "compare_head": "How do the models compare" if several else "Do the dimensions vary together",
        "title": _title(sources),
        "skipped": [plain(sentence) for sentence in (*sources.skipped, *sources.stale)],
        "left_out": [],
        "names": [named.name for named in analyses],
        "comparison": [(label, *texts) for label, texts in comparison.comparison_rows(analyses)] if several else [],
        "comparison_notes": comparison.comparison_notes(analyses) if several else [],
        "stability": None if sources.stability is None else _stability(sources.stability),
        "covariance": Markup(covariance_heatmap(*compared)),  # noqa: S704
        "covariance_caption": CAPTION,
        "correlation": Markup(correlation_heatmap(*compared)),  # noqa: S704
        "correlation_caption": CORRELATION_CAPTION,
        "analyses": [analysis_texts(named, alone=not several) for named in analyses],
        "runs": [
            {**_run(named), "p": Markup(p_over_epochs(named)), "loss": Markup(loss_over_epochs(named))}  # noqa: S704
            for named in sources.runs
        ],
        "sweeps": [{**_sweep(named), "figure": Markup(sweep_svg(named.record))} for named in sources.sweeps],  # noqa: S704
        "sweep_caption": SWEEP_CAPTION,
    }


def _title(sources: Sources) -> str:
    if len(sources.analyses) == 1:
        return facts.headline(sources.analyses[0].record)
    parts = []
    if sources.analyses:
        counts = ", ".join(f"{a.record.selection.count} of {a.record.model.latent_dim}" for a in sources.analyses)
        several = plural(len(sources.analyses), "analysis", "analyses")
        if len(sources.analyses) <= _COUNTED:
            return f"Informative dimensions in {several}: {counts}"
        parts.append(several)
    if sources.runs:
        parts.append(plural(len(sources.runs), "training run", "training runs"))
    if sources.sweeps:
        if not parts and len(sources.sweeps) == 1:
            return plain(sweep_headline(sources.sweeps[0].record))
        parts.append(plural(len(sources.sweeps), "sweep", "sweeps"))
    return " and ".join(parts) or "Nothing to report"


def _contents(sources: Sources) -> list[tuple[str, str]]:
    """Places on the page and what they are called, in its order."""
    analyses = sources.analyses
    found: list[tuple[str, str]] = []
    if len(analyses) == 1:
        found += [("which-1", "Which dimensions")]
        if analyses[0].pictures or analyses[0].record.supervised:
            found.append(("does-1", "What each does"))
        found.append(("trust-1", "Can I trust it"))
    else:
        found += [(f"analysis-{i}", named.name) for i, named in enumerate(analyses, 1)]
    if analyses:
        found += [("compare", "Do they vary together" if len(analyses) == 1 else "How they compare")]
        found += [("stored-1", "What I store")]
    found += [(f"run-{i}", f"{named.name}: training") for i, named in enumerate(sources.runs, 1)]
    found += [(f"sweep-{i}", f"{named.name}: sweep") for i, named in enumerate(sources.sweeps, 1)]
    return [*found, ("provenance-1", "Where this comes from")] if analyses else found


def _stability(found: Stability) -> dict[str, Any]:
    return {
        "headline": stability_headline(found),
        "rows": stability_rows(found),
        "tables": stability_tables(found),
        "matches": [(names, ", ".join(matches)) for names, matches in stability_matches(found)],
        "notes": stability_notes(found),
    }


def _sweep(named: NamedSweep) -> dict[str, Any]:
    record = named.record
    return {
        "name": named.name,
        "headline": plain(sweep_headline(record)),
        "heads": [head.replace("-\n", "").replace("\n", " ") for head in HEADS],
        "rows": [(inside, cells) for inside, *cells in sweep_rows(record)],
        "legend": LEGEND,
        "facts": sweep_facts(record),
        "notes": [plain(note) for note in record.notes],
    }


def _run(named: NamedRun) -> dict[str, Any]:
    epochs = named.record.epochs
    return {
        "name": named.name,
        "state": progress.state(named),
        "score": progress.score_name(epochs),
        "figures": progress.figure_rows(epochs[-1]) if epochs else [],
        "facts": progress.epoch_rows(named) if epochs else [],
        "notes": progress.run_notes(named),
        "config": progress.config_rows(named),
    }
