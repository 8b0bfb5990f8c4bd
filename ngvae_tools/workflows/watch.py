"""Watching a training: what its run folder says, look by look."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ngvae_tools import benchmark_record, record, sweep_record
from ngvae_tools.errors import RecordError
from ngvae_tools.reporting.checks import check_run
from ngvae_tools.reporting.watching import Glance
from ngvae_tools.reporting.words import plain
from ngvae_tools.run import CONFIG_NAME, DIVERGED_NAME, HISTORY_NAME, SUMMARY_NAME, RunRecord
from ngvae_tools.workflows.cells import CELLS
from ngvae_tools.workflows.lock import holder

_PATIENCE = 3
"""Looks in a row at which a record may be unreadable, while a training that begins is moving files."""


class Watcher:
    """Looks at a run folder, reading it again only where something was written.

    Args:
        folder: The run folder; it need not be there yet.

    Raises:
        RecordError: It is a file, or holds something else than a training.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._seen: tuple[int | None, ...] = ()
        self._record: RunRecord | None = None
        self._failed = 0
        self._refuse_others()

    def look(self) -> Glance:
        """The folder as it is now.

        Raises:
            RecordError: What lies there is no training that can be read.
        """
        self._refuse_others()
        record = self._read()
        held, unknown = None, None
        if record is not None and record.summary is None:
            try:
                held = holder(self.folder)
            except OSError as error:
                unknown = error.strerror or str(error)
            if held is None:
                # It may have written its end between our reading and its letting go.
                record = self._read()
        return Glance(self.folder, record, held, self._idle(), unknown)

    def _read(self) -> RunRecord | None:
        names = (CONFIG_NAME, HISTORY_NAME, SUMMARY_NAME, DIVERGED_NAME)
        seen = tuple(_stamp(self.folder / name) for name in names)
        if seen[0] is None:
            self._seen, self._record = (), None
        elif seen != self._seen:
            try:
                record = RunRecord.read(self.folder)
                check_run(self.folder, record)
            except RecordError:
                self._failed += 1
                if self._failed > _PATIENCE:
                    raise
                return self._record
            self._seen, self._record, self._failed = seen, record, 0
        return self._record

    def _idle(self) -> float:
        stamp = _stamp(self.folder / HISTORY_NAME)
        return 0.0 if stamp is None else max(time.time() - stamp / 1e9, 0.0)

    def _refuse_others(self) -> None:
        """Say what a folder is that no training has written, before waiting in it for ever."""
        folder = self.folder
        try:
            if (folder / CONFIG_NAME).exists() or not folder.exists():
                return
        except OSError as error:
            raise _no_training(folder, error.strerror or str(error), "check the path") from None
        if not folder.is_dir():
            raise _no_training(folder, "a file", "name a run folder")
        if (folder / CELLS).is_dir() or any(
            (folder / name).exists() for name in (sweep_record.FILE_NAME, benchmark_record.FILE_NAME)
        ):
            runs = sorted((folder / CELLS).glob("*/run"), key=lambda run: _stamp(run / HISTORY_NAME) or 0)
            example = f", such as {plain(runs[-1])}" if runs else ""
            raise _no_training(
                folder, "a sweep or a benchmark", f"name the run of one of its trainings, cells/NAME/run{example}"
            )
        if (folder / record.FILE_NAME).exists():
            raise _no_training(folder, "an analysis", "show it with ngvae-tools report, without --watch")


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _no_training(folder: Path, found: str, remedy: str) -> RecordError:
    return RecordError(f"{plain(folder)} cannot be watched", expected="a run folder", found=found, remedy=remedy)
