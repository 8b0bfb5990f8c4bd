"""`ngvae-tools report`: show analyses and training runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ngvae_tools.cli.terminal import LogFile, Overwrite, Quiet, Terminal
from ngvae_tools.cli.watch import watch
from ngvae_tools.errors import OptionError

if TYPE_CHECKING:
    from ngvae_tools.reporting.sources import Sources


def command(
    context: typer.Context,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Output folders of select-latents and run folders [default: every one found here].",
            metavar="[OUT]...",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained page, and print the headlines only.", metavar="FILE")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Make a folder with every figure as SVG, PNG and CSV, for papers.", metavar="DIR"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, nothing else.")] = False,
    as_markdown: Annotated[
        bool,
        typer.Option(
            "--markdown", help="Print Markdown to stdout, nothing else: for a pull request or a job's summary."
        ),
    ] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with 5 where this holds of anything shown, such as 'informative > 10'; may be given several "
            "times. --fail-if help lists what can be checked.",
            metavar="CONDITION",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--every", help="Show every analysis in full, every dimension, statistic and interval.")
    ] = False,
    samples: Annotated[
        bool, typer.Option("--samples", help="Show covariance metrics of samples of the posterior too.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="The images analysed, for page and figures [default: where the record says].")
    ] = None,
    decoder: Annotated[
        Path | None, typer.Option(help="Decoder (ONNX) or run, for the same [default: as the record says].")
    ] = None,
    method: Annotated[
        Literal["pca", "umap"], typer.Option("--map", help="Map of the latents; umap needs the extra of that name.")
    ] = "pca",
    device: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(help="Where to run the decoder.")
    ] = "auto",
    watched: Annotated[
        list[Path] | None,
        typer.Option("--watch", help="Show a training while it runs, until it ends or Ctrl-C.", metavar="RUN"),
    ] = None,
    every_seconds: Annotated[
        float | None,
        typer.Option(help="With --watch: seconds between two looks at the run folder [default: 1].", min=0.1),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Show one or several analyses side by side, and training runs."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    if watched:
        if len(watched) > 1 or any(
            (sources, html, figures, as_json, as_markdown, fail_if, every, samples, data, decoder)
        ):
            raise OptionError(
                "--watch shows one training and nothing else",
                expected="no folders and no other form of report beside it",
                found=f"{len(watched)} runs to watch" if len(watched) > 1 else "some",
                remedy="call report once more for those",
            )
        watch(terminal, watched[0], 1.0 if every_seconds is None else every_seconds)
        return
    if every_seconds is not None:
        raise OptionError(
            "--every-seconds belongs to --watch",
            expected="--watch RUN beside it",
            found="none",
            remedy="name the training to watch, or leave --every-seconds away",
        )
    if as_json and as_markdown:
        raise OptionError(
            "--json and --markdown both print to stdout",
            expected="one of them",
            found="both",
            remedy="run report once for each",
        )
    from ngvae_tools.reporting.conditions import check, names, parse

    if "help" in (fail_if or ()):
        print(names(), end="", flush=True)
        return
    from ngvae_tools.reporting.terminal import headlines, render
    from ngvae_tools.workflows.report import report

    conditions = [parse(text) for text in fail_if or []]
    found = report(
        sources or None,
        html=html,
        figures=figures,
        overwrite=overwrite,
        data=data,
        decoder=decoder,
        device=device,
        method=method,
    )
    for sentence in (*found.skipped, *(found.stale if as_json else ())):
        terminal.say(sentence)
    for note in dict.fromkeys(
        note for named in found.analyses if named.pictures is not None for note in named.pictures.notes
    ):
        terminal.say(f"Note: {note}")
    if as_json or as_markdown:
        _print(found, as_json=as_json)
    else:
        written = html is not None or figures is not None
        terminal.show(headlines(found) if written else render(found, every=every, samples=samples))
    if html is None and figures is None:
        terminal.next("report", *(sources or []), "--html", "report.html")
    _say_written(terminal, found, html, figures)
    check(conditions, found)


def _print(found: Sources, *, as_json: bool) -> None:
    """Print JSON or Markdown to stdout."""
    if as_json:
        from ngvae_tools.reporting.document import as_json as text_of
    else:
        from ngvae_tools.reporting.markdown import markdown as text_of

        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # whatever the locale of a CI job
    print(text_of(found), end="", flush=True)


def _say_written(terminal: Terminal, found: Sources, html: Path | None, figures: Path | None) -> None:
    from ngvae_tools.reporting.words import plural

    if html is not None:
        from ngvae_tools.reporting.html import size_note

        terminal.say(
            " ".join(filter(None, (f"Wrote {html}.", size_note(html.stat().st_size), "Next: open it in a browser.")))
        )
    if figures is not None:
        from ngvae_tools.reporting.figure_files import LIST_NAME, figures_of

        names = [file.name for file in figures_of(found)]
        terminal.say(
            f"Wrote {plural(len(names), 'figure', 'figures')} to {figures}, each as SVG, PNG and CSV: "
            f"{', '.join(names)}. {LIST_NAME} has their captions."
            if names
            else f"Wrote no figure to {figures}: nothing has data to draw yet."
        )
