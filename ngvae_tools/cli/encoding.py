"""What is said while a data set is encoded, and of its result: shared by select-latents and merge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ngvae_tools.cli.cells import duration
from ngvae_tools.cli.terminal import FINISHED_WITH_REJECTED, Terminal, logger

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord
    from ngvae_tools.workflows.encode import EncodePlan, EncodeProgress

ESTIMATE_AFTER = 5.0
"""Seconds after which the rest is estimated."""


def say_plan(terminal: Terminal, plan: EncodePlan) -> None:
    """Say how many images there are, and how much disk the work takes."""
    needed = plan.shard_bytes + plan.result_bytes
    terminal.say(
        f"{plan.n_images:,} images. Their latents take {size(plan.shard_bytes)} of disk until the result is written, "
        f"which takes {size(plan.result_bytes)} at most, the names of images apart."
    )
    if needed > plan.free_bytes:
        terminal.say(f"Warning: only {size(plan.free_bytes)} are free; name an --output on a larger disk.")
    if plan.n_done:
        terminal.say(f"Going on with what is there: {plan.n_done:,} images are done.")
    for note in plan.notes:
        terminal.say(f"Slow to read: {note}")


@contextmanager
def encoding_progress(terminal: Terminal) -> Iterator[Callable[[EncodeProgress], None]]:
    """Show progress until the block ends; after the first seconds also say how long the rest will take."""
    began: float | None = None
    told = False
    with terminal.images_bar() as update:

        def on_progress(progress: EncodeProgress) -> None:
            nonlocal began, told
            now = time.monotonic()
            # From the first piece on: the start of the workers is no measure.
            began = began or now
            update(progress.done, progress.total, f", {progress.rejected:,} rejected" if progress.rejected else "")
            if not told and now - began > ESTIMATE_AFTER:
                told = True
                rate = (progress.done - progress.n_before) / (now - began)
                left = (progress.total - progress.done) / rate
                if left > ESTIMATE_AFTER:
                    terminal.say(f"About {duration(left)} left, at {rate:,.0f} images/s.")
            if progress.done == progress.total:
                logger.info("%d images seen, %d rejected", progress.done, progress.rejected)

        yield on_progress


def show_selection(terminal: Terminal, record: AnalysisRecord, folder: Path, *, as_json: bool) -> None:
    """Show a result and what follows; exits with 3 where something was rejected."""
    if as_json:
        print(record.to_json(), end="", flush=True)
    else:
        from ngvae_tools.reporting.sources import open_sources
        from ngvae_tools.reporting.terminal import render

        terminal.show(render(open_sources([folder])))
    if record.data.n_rejected:
        from ngvae_tools.reporting.rejections import rejected_text

        told = rejected_text(record.rejections, record.data.n_rejected, record.data.n_images)
        terminal.say(f"{told}; {folder / 'rejected.jsonl'} lists each.")
    terminal.next("report", folder, "--html", folder / "report.html")
    if record.data.n_rejected:
        raise typer.Exit(FINISHED_WITH_REJECTED)


def size(count: int) -> str:
    """Bytes in words: `12 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count = round(count / 1000)
    return f"{count:,} TB"
