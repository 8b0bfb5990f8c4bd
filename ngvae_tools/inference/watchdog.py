"""Ending a run of a model that takes too long."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ngvae_tools.inference.providers import require_onnxruntime


class RunTooLongError(Exception):
    """A run was ended because its time was over."""


class Watchdog:
    """Sets `terminate` of runs whose time is over; one thread watches all runs of a session.

    onnxruntime looks at it between two operators and between two rounds of a loop.
    """

    def __init__(self) -> None:
        self._deadlines: dict[Any, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float) -> Iterator[Any]:
        """RunOptions for one run of at most so many seconds.

        Raises:
            RunTooLongError: The run was ended.
        """
        options = require_onnxruntime().RunOptions()
        options.log_severity_level = 4
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True, name="watchdog")
                self._thread.start()
            self._deadlines[options] = time.monotonic() + seconds
        try:
            yield options
        except Exception:
            if options.terminate:
                raise RunTooLongError from None
            raise
        finally:
            del self._deadlines[options]

    def end_late_runs(self) -> float:
        """End the runs whose time is over; seconds after which to look again."""
        now = time.monotonic()
        for options, deadline in list(self._deadlines.items()):
            if deadline <= now:
                options.terminate = True
        return min([1.0, *(max(deadline - now, 0.01) for deadline in list(self._deadlines.values()))])


def _watch(reference: weakref.ref[Watchdog]) -> None:
    # Only a weak reference, so that a session that nobody holds is not kept by its own guard.
    while (watchdog := reference()) is not None:
        pause = watchdog.end_late_runs()
        del watchdog
        time.sleep(pause)
