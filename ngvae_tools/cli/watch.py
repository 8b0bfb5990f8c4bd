"""`ngvae-tools report --watch`: a training while it runs, moving in a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ngvae_tools.cli.terminal import INTERRUPTED, Terminal
from ngvae_tools.errors import TrainingDivergedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from ngvae_tools.reporting.watching import Glance

CODES = {"finished": 0, "diverged": TrainingDivergedError.exit_code, "stopped": INTERRUPTED}
"""Exit code by how a training ended: that of the training itself."""

RESIZED = 0.2
"""Seconds between two looks at the size of the terminal."""


def watch(terminal: Terminal, folder: Path, seconds: float) -> None:
    """Show a run folder until its training ends, and end as it did.

    Raises:
        typer.Exit: The training diverged, or its process has gone without finishing.
        KeyboardInterrupt: The user has seen enough; the training goes on.
    """
    from rich.console import Console

    from ngvae_tools.reporting.sources import NamedRun
    from ngvae_tools.reporting.terminal import run_view
    from ngvae_tools.reporting.watching import sentence
    from ngvae_tools.reporting.words import plain
    from ngvae_tools.workflows.watch import Watcher

    watcher = Watcher(folder)
    console = Console(highlight=False)
    moving = console.is_terminal and not console.is_dumb_terminal
    try:
        with _moving(console) if moving else _lines(terminal) as show:
            while (glance := watcher.look()).state not in CODES:
                show(glance, seconds)
            if not moving:
                show(glance, 0.0)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the watching of {folder} alone; a training there goes on") from None
    if moving and glance.record is not None:
        terminal.show(run_view(NamedRun(plain(folder), folder, glance.record)))
    terminal.say(sentence(glance))
    if code := CODES[glance.state]:
        raise typer.Exit(code)


@contextmanager
def _moving(console: Console) -> Iterator[Callable[[Glance, float], None]]:
    """The whole screen, drawn anew at every look and when its size changes; what was there before comes back."""
    from rich.live import Live
    from rich.text import Text

    from ngvae_tools.reporting.watching import lines

    with Live(console=console, screen=True, auto_refresh=False) as live:

        def draw(glance: Glance) -> tuple[int, int]:
            width, height = console.size
            text = "\n".join(lines(glance, width, height))
            live.update(Text(text, no_wrap=True, overflow="crop"), refresh=True)
            return width, height

        def show(glance: Glance, seconds: float) -> None:
            drawn, end = draw(glance), time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, RESIZED))
                if console.size != drawn:
                    drawn = draw(glance)

        yield show


@contextmanager
def _lines(terminal: Terminal) -> Iterator[Callable[[Glance, float], None]]:
    """A line an epoch on stdout; what is waited for on stderr, each once."""
    from ngvae_tools.reporting.watching import epoch_line, sentence

    done, said = 0, None

    def show(glance: Glance, seconds: float) -> None:
        nonlocal done, said
        if len(glance.epochs) < done:
            done = 0  # another training has begun there
        for epoch in glance.epochs[done:]:
            print(epoch_line(epoch), flush=True)
        done = len(glance.epochs)
        new = glance.state != said
        if new and (glance.state == "unknown" or (not glance.epochs and glance.state in {"waiting", "training"})):
            said = glance.state
            terminal.say(sentence(glance))
        time.sleep(seconds)

    yield show
