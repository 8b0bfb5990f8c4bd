"""How long many trainings will take, and where they stand: a live table in a terminal, a line a training elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ngvae_tools.cli.terminal import Terminal, logger

if TYPE_CHECKING:
    from rich.table import Table

    from ngvae_tools.workflows.cell_pool import CellsProgress, WorkerState
    from ngvae_tools.workflows.cells import CellsPlan


def duration(seconds: float) -> str:
    """Roughly how long, in words: `40 seconds`, `14 minutes`, `2.5 hours`."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"


def say_plan(terminal: Terminal, plan: CellsPlan) -> None:
    """Say beforehand how long it will take."""
    kept = f"; {plan.kept} of them are done" if plan.kept else ""
    workers = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
    terminal.say(
        f"{plan.total} trainings on {workers}{kept}: about {duration(plan.seconds)}, by steps timed here just now. "
        "Interrupt when you like: the same command goes on."
    )


@contextmanager
def cells_progress(terminal: Terminal) -> Iterator[Callable[[CellsProgress], None]]:
    """Show progress until the block ends."""
    from rich.live import Live

    with Live(console=terminal.err, auto_refresh=False, transient=True) as live:

        def on_progress(progress: CellsProgress) -> None:
            if progress.ended is not None:
                line = _ended(progress)
                logger.info(line)
                if not terminal.quiet:
                    live.console.print(line, markup=False)
            if terminal.interactive:
                live.update(_table(progress), refresh=True)

        yield on_progress


def _ended(progress: CellsProgress) -> str:
    """A line for a training that ended."""
    result = progress.ended
    assert result is not None
    what = f"done in {duration(result.seconds)}" if result.failed is None else f"failed: {result.failed.rstrip('.')}"
    left = f"; about {duration(progress.seconds_left)} left" if progress.done < progress.total else ""
    return f"{progress.done}/{progress.total} {result.cell.name}: {what}{left}"


def _table(progress: CellsProgress) -> Table:
    from rich.table import Table

    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in ("training", "now", "epoch", "loss", "informative"):
        shown.add_column(head, justify="left" if head in {"training", "now"} else "right", no_wrap=True)
    for state in progress.workers:
        shown.add_row(*_row(state))
    shown.caption = f"{progress.done} of {progress.total} done, about {duration(progress.seconds_left)} left"
    shown.caption_justify = "left"
    return shown


def _row(state: WorkerState) -> tuple[str, ...]:
    return (
        state.cell,
        state.stage,
        f"{state.epochs:.1f}/{state.expected_epochs}",
        "" if state.loss is None else f"{state.loss:.1f}",
        "" if state.informative is None else str(state.informative),
    )
