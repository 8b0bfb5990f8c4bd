"""report: gather analyses and training runs, and write the page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ngvae_tools import sweep_record
from ngvae_tools.errors import OptionError
from ngvae_tools.files import real_path, refuse_replacing
from ngvae_tools.record import FILE_NAME
from ngvae_tools.reporting.sources import Sources, find_sources, open_sources
from ngvae_tools.workflows.beside import stale
from ngvae_tools.workflows.run_folder import RUN_FILES

if TYPE_CHECKING:
    from ngvae_tools.workflows.latent_map import Method


def report(
    sources: Sequence[str | os.PathLike[str]] | None = None,
    *,
    html: str | os.PathLike[str] | None = None,
    figures: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    data: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    device: str = "auto",
    method: Method = "pca",
) -> Sources:
    """Read analyses and training runs, match the dimensions of analyses of the same data, and write page and figures.

    Args:
        sources: Output folders of select-latents and run folders; every one below the current folder by default.
        html: The page to write.
        figures: The folder to make, with every figure as SVG, PNG and CSV.
        overwrite: Replace a page or a folder of figures that is there; nothing else ever is.
        data: The data set that analyses are of, where their records do not say; for the images shown.
        decoder: The decoder of analyses, or the folder of its run; the same.
        device: Where decoders run: `auto`, `cpu` or `cuda`.
        method: How the map of the latents is made: `pca`, or `umap` with the extra of that name.

    Raises:
        ContractError: The decoder cannot be used, or belongs to none of the analyses.
        DatasetError: The data set cannot be used, or none of the analyses is of it.
        MissingDependencyError: A package that a decoder or the map needs is not installed.
        OptionError: Data or a decoder are named, but neither page nor figures, or there is no analysis; or page or
            figures would replace one of the inputs, or each other.
        OutputError: The page or the folder exists or cannot be written.
        RecordError: A source cannot be read, or there is none.
    """
    shown = html is not None or figures is not None
    _check_options(data=data, decoder=decoder, method=method, shown=shown)
    if html is not None:
        from ngvae_tools.reporting.html import refuse_page

        refuse_page(Path(html), overwrite=overwrite)
    if figures is not None:
        from ngvae_tools.reporting.figure_files import refuse_figures

        refuse_figures(Path(figures), overwrite=overwrite)
    if html is not None and figures is not None:
        _refuse_together(html, figures)
    found = open_sources([Path(source) for source in sources]) if sources else find_sources(Path())
    checked = tuple(dataclasses.replace(named, stale=stale(named)) for named in found.analyses)
    found = dataclasses.replace(found, analyses=checked)
    for output in (html, figures):
        if output is not None:
            refuse_replacing(Path(output), *_inputs(found), *(each for each in (data, decoder) if each is not None))
    seen = [named.record.data.fingerprint for named in found.analyses]
    # Analyses that were named are matched, or told why not; among those found, only those of the same data.
    if len(set(seen)) < len(seen) or (sources and len(seen) > 1):
        from ngvae_tools.workflows.stability import stability

        found = dataclasses.replace(found, stability=stability(found.analyses))
    if shown:
        from ngvae_tools.workflows.pictures import gather_all

        analyses = gather_all(found.analyses, data=data, decoder=decoder, device=device, method=method)
        found = dataclasses.replace(found, analyses=analyses)
    if html is not None:
        from ngvae_tools.reporting.html import write_html

        write_html(found, Path(html))
    if figures is not None:
        from ngvae_tools.reporting.figure_files import write_figures

        write_figures(found, Path(figures), overwrite=overwrite)
    return found


def _refuse_together(html: str | os.PathLike[str], figures: str | os.PathLike[str]) -> None:
    """Refuse a page in the folder of the figures, which is made and replaced as a whole, and a folder in the page."""
    page, folder = real_path(html), real_path(figures)
    if folder in (page, *page.parents) or page in folder.parents:
        raise OptionError(
            "the page cannot be in the folder of the figures",
            expected="--html and --figures apart from each other",
            found=f"{html} and {figures}",
            remedy="name another place for one of them",
        )


def _inputs(found: Sources) -> Iterator[str | Path]:
    """Files of the folders shown, and the models and data sets that their records name."""
    for analysis in found.analyses:
        record = analysis.record
        yield from (analysis.folder / name for name in (FILE_NAME, record.latents.file))
        yield from (record.model.path, record.data.path)
        yield from (part.decoder for part in (record.truncation, record.reconstruction) if part is not None)
        if record.supervised is not None:
            yield record.supervised.source
    for run in found.runs:
        yield from (run.folder / name for name in RUN_FILES)
        yield from _path_in(run.record.config.get("data"))
    for sweep in found.sweeps:
        yield sweep.folder / sweep_record.FILE_NAME
        yield from _path_in(sweep.record.data)


def _path_in(data: object) -> Iterator[str]:
    """The path that a record gives of its data set, whatever it holds."""
    path = data.get("path") if isinstance(data, Mapping) else None
    if isinstance(path, str):
        yield path


def _check_options(*, data: object, decoder: object, method: Method, shown: bool) -> None:
    named = {"--data": data is not None, "--decoder": decoder is not None, "--map": method != "pca"}
    for option, given in named.items():
        if given and not shown:
            raise OptionError(
                f"{option} is for images",
                expected="a page or figures to show them on",
                found="none",
                remedy="pass --html FILE or --figures DIR, or leave the option out",
            )
