"""What every command shares: words and progress on stderr, results on stdout, errors as sentences."""

from __future__ import annotations

import functools
import logging
import os
import shlex
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from ngvae_tools.errors import NgvaeToolsError, OutputError

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
T = TypeVar("T")

INTERNAL_FAULT = 1
FINISHED_WITH_REJECTED = 3
INTERRUPTED = 130

logger = logging.getLogger("ngvae_tools")
logger.addHandler(logging.NullHandler())

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no words, only results and errors.")]
LogFile = Annotated[
    Path | None,
    typer.Option("--log-file", help="Append what happens, with times, to this file.", metavar="FILE"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished result that is there.")]
DatasetKey = Annotated[
    str | None,
    typer.Option(
        help="Name of the images in HDF5, .npz or Zarr [default: images, imgs, x or data], or of their column."
    ),
]


class Terminal:
    """Where a command writes.

    Args:
        context: The command's context; `--quiet` and `--log-file` may stand before the command too.
        quiet: Show results and errors only.
        log_file: Append a log to this file.
    """

    def __init__(self, context: typer.Context, *, quiet: bool, log_file: Path | None) -> None:
        shared = context.obj or {}
        self.quiet = quiet or shared.get("quiet", False)
        start_log(log_file or shared.get("log_file"))

    @functools.cached_property
    def err(self) -> Console:
        """The console for words and progress."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def say(self, text: str) -> None:
        """A sentence for the user, unless `--quiet`."""
        self._print(text, wrapped(text))

    def next(self, *command: object) -> None:
        """Name the command that follows, in one line however long, so that it can be copied."""
        text = "Next: " + shlex.join(["ngvae-tools", *(str(word) for word in command)])
        self._print(text, text)

    def _print(self, text: str, shown: str) -> None:
        logger.info(text)
        if not self.quiet:
            self.err.print(shown, markup=False)

    def show(self, renderable: Any) -> None:
        """A result, on stdout: as wide as the terminal, 80 columns and plain where it is piped."""
        from rich.console import Console

        console = Console(highlight=False, emoji=False)
        # rich ends the process with an error where the reader of stdout has gone; print leaves that to us.
        with console.capture() as text:
            console.print(renderable, markup=False)
        print(text.get(), end="", flush=True)

    @contextmanager
    def images_bar(self) -> Iterator[Callable[..., None]]:
        """A bar of images done, with images a second and the time left; called with done, total and a remark."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("images"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}"),
        )
        with Progress(*columns, console=self.err, disable=not self.interactive) as bar:
            task = bar.add_task("images", total=None, remark="")

            def update(done: int, total: int, remark: str = "") -> None:
                speed = bar.tasks[task].speed
                rate = f"{speed:,.0f} images/s" if speed else ""
                bar.update(task, completed=done, total=total, remark=rate + remark)

            yield update

    @property
    def interactive(self) -> bool:
        """Whether a moving progress bar can be seen."""
        return not self.quiet and self.err.is_terminal


def start_log(path: Path | None) -> None:
    """Send the package's log to a file, appending.

    Raises:
        OutputError: The file cannot be written.
    """
    if path is None:
        return
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"cannot write the log {path}",
            expected="a file in a folder that is there and can be written",
            found=error.strerror or str(error),
            remedy="name another --log-file",
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.info("%s", shlex.join(["ngvae-tools", *sys.argv[1:]]))


def wrapped(text: str) -> str:
    """Text as stderr shows it: broken at spaces where it is a terminal, as it is where it is piped.

    No word is broken, so that a path can be copied.
    """
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # it is no terminal
        return text
    return "\n".join(
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) if 0 < width < len(line) else line
        for line in text.split("\n")
    )


def complain(text: str) -> None:
    """An error for the user, on stderr, `--quiet` or not."""
    print(wrapped(text), file=sys.stderr)


def guarded(function: Callable[P, T]) -> Callable[P, T]:
    """Turn what a command raises into one sentence on stderr and the exit code that belongs to it."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            result = function(*args, **kwargs)
            sys.stdout.flush()
        except NgvaeToolsError as error:
            logger.error("%s", error)  # noqa: TRY400 - a sentence for the user, not a traceback
            complain(f"Error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as interrupt:
            logger.info("interrupted")
            what = str(interrupt) or "no unfinished result was left under a final name"
            complain(f"\nInterrupted: {what}.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output has gone (ngvae-tools report | head); that is no error of ours.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:  # noqa: BLE001 - the border: no traceback reaches a user
            complain(f"Error: {_fault(error)}")
            raise typer.Exit(INTERNAL_FAULT) from None
        return result

    return run


def _fault(error: Exception) -> str:
    """A sentence on an internal fault, its traceback kept where a report of it can use it."""
    details = traceback.format_exc()
    logger.error("a fault inside ngvae-tools\n%s", details)
    with tempfile.NamedTemporaryFile("w", prefix="ngvae-tools-", suffix=".log", delete=False, encoding="utf-8") as file:
        file.write(details)
    summary = str(error).splitlines()[0] if str(error) else "no message"
    return (
        f"a fault inside ngvae-tools ({type(error).__name__}: {summary}); "
        f"please report it with the details in {file.name}."
    )
