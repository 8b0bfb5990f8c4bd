"""One self-contained page of everything the sources hold; jinja2 and matplotlib load when it is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.files import write_text
from ngvae_tools.report import facts, progress
from ngvae_tools.report.figures import covariance_heatmap, loss_over_epochs, p_over_epochs
from ngvae_tools.report.heatmap import CAPTION
from ngvae_tools.report.words import flat, number, plain, plural, spread

if TYPE_CHECKING:
    from ngvae_tools.report.sources import NamedAnalysis, NamedRun, Sources

TEMPLATE = "template.html.jinja"


def write_html(sources: Sources, path: Path | str) -> Path:
    """Write the page in one step, and return its path.

    The same sources give the same bytes. The page loads nothing, runs no script and follows the
    reader's light or dark setting. Sections without data are absent.

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
        loader=PackageLoader("ngvae_tools.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE).render(_view(sources))


def _view(sources: Sources) -> dict[str, Any]:
    """All texts of the page; in the figures, markup of our own, matplotlib has escaped foreign text."""
    from markupsafe import Markup

    analyses = sources.analyses
    several = len(analyses) > 1
    covariance = covariance_heatmap([a.record for a in analyses], [a.name for a in analyses])
    return {
        "title": _title(sources),
        "skipped": [plain(sentence) for sentence in sources.skipped],
        "names": [named.name for named in analyses],
        "comparison": facts.comparison_rows(analyses) if several else [],
        "comparison_notes": facts.comparison_notes(analyses) if several else [],
        "covariance": Markup(covariance),  # noqa: S704
        "covariance_caption": CAPTION,
        "analyses": [_analysis(named) for named in analyses],
        "runs": [
            {**_run(named), "p": Markup(p_over_epochs(named)), "loss": Markup(loss_over_epochs(named))}  # noqa: S704
            for named in sources.runs
        ],
    }


def _title(sources: Sources) -> str:
    if len(sources.analyses) == 1:
        return facts.headline(sources.analyses[0].record)
    parts = []
    if sources.analyses:
        parts.append(plural(len(sources.analyses), "analysis", "analyses"))
    if sources.runs:
        parts.append(plural(len(sources.runs), "training run", "training runs"))
    return " and ".join(parts) or "Nothing to report"


def _analysis(named: NamedAnalysis) -> dict[str, Any]:
    record = named.record
    with_p = any(row.p_mean is not None for row in record.dimensions)
    return {
        "name": named.name,
        "headline": facts.headline(record),
        "rule": f"A dimension is called informative where {facts.rule_sentence(record.selection)}.",
        "notes": facts.notes(record),
        "totals": facts.totals_rows(record),
        "with_p": with_p,
        "dimensions": [
            {
                "index": row.index,
                "informative": row.informative,
                "p": spread(row.p_mean, row.p_std),
                "numbers": [
                    number(row.posterior_variance),
                    number(row.posterior_entropy),
                    number(row.mu_mean),
                    number(row.mu_variance),
                ],
            }
            for row in facts.ordered(record)
        ],
        "data": facts.data_rows(record),
        "provenance": facts.provenance_rows(record),
    }


def _run(named: NamedRun) -> dict[str, Any]:
    epochs = named.record.epochs
    return {
        "name": named.name,
        "state": progress.state(named),
        "score": progress.score_name(epochs),
        "figures": progress.figure_rows(epochs[-1]) if epochs else [],
        "facts": progress.epoch_rows(named) if epochs else [],
        "config": flat(dict(named.record.config)),
    }
