"""Decoded rows that several threads read from, made once and by all of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

Store: TypeAlias = "npt.NDArray[Any]"
Decode: TypeAlias = "Callable[[Store, int], str | None]"
"""Puts part k into a store; returns why it cannot be decoded, if so."""


class Window:
    """A range of rows, decoded in parts.

    Attributes:
        store: The decoded rows, complete once `WindowCache.open` gives the window out.
        reasons: One value a part: why it cannot be decoded, None for the others.
    """

    def __init__(self, store: Store, rows: int, parts: int) -> None:
        self.store = store
        self.reasons: list[str | None] = [None] * parts
        self._served = np.zeros(rows, bool)
        self.begun = self.ended = self.users = 0
        self.failed = False

    def serve(self, start: int, stop: int) -> None:
        """Note that rows of it were read."""
        self._served[start:stop] = True

    @property
    def spent(self) -> bool:
        """Whether every row was read once: whoever reads on in order needs none of them again."""
        return self.failed or bool(self._served.all())


class WindowCache:
    """Windows up to a number of bytes; those that were read in full, or longest ago, go first.

    A thread that wants a window decodes those parts of it that no other has begun, then waits for the rest. A window
    that would exceed the limit waits until others are given back; so a thread may hold only one at a time.

    Args:
        limit: Bytes of all windows together; one alone may exceed it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = Condition()
        self._windows: OrderedDict[Hashable, Window] = OrderedDict()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes of the windows that are there now."""
        return self._size

    @contextmanager
    def open(
        self, key: Hashable, *, rows: int, parts: int, make: Callable[[], Store], decode: Decode
    ) -> Iterator[Window]:
        """A window, decoded.

        Args:
            key: What it is known by.
            rows: Its rows.
            parts: Its parts.
            make: Gives an empty store for it.
            decode: Puts part k there; called from several threads at once. What it raises goes to its caller.
        """
        while True:
            window = self._take(key, rows, parts, make)
            try:
                self._fill(window, decode)
                if not window.failed:
                    yield window
                    return
            finally:
                self._give_back(key, window)

    def clear(self) -> None:
        """Forget what nobody reads from now."""
        with self._changed:
            for key in [key for key, window in self._windows.items() if not window.users]:
                self._drop(key)

    def _take(self, key: Hashable, rows: int, parts: int, make: Callable[[], Store]) -> Window:
        with self._changed:
            while (window := self._windows.get(key)) is None or window.failed:
                # Pages of a new store take no memory before they are written.
                if window is None and self._make_room((store := make()).nbytes):
                    window = self._windows[key] = Window(store, rows, parts)
                    self._size += store.nbytes
                    break
                self._changed.wait()
            self._windows.move_to_end(key)
            window.users += 1
            return window

    def _make_room(self, size: int) -> bool:
        while self._windows and self._size + size > self._limit:
            idle = next((key for key, window in self._windows.items() if not window.users), None)
            if idle is None:
                return False
            self._drop(idle)
        return True

    def _fill(self, window: Window, decode: Decode) -> None:
        while True:
            with self._changed:
                number = window.begun
                if number == len(window.reasons) or window.failed:
                    break
                window.begun += 1
            try:
                window.reasons[number] = decode(window.store, number)
            except BaseException:
                # Out of memory, or interrupted: whoever else waits for this window starts it again.
                window.failed = True
                raise
            finally:
                with self._changed:
                    window.ended += 1
                    if window.failed or window.ended == len(window.reasons):
                        self._changed.notify_all()
        with self._changed:
            self._changed.wait_for(lambda: window.failed or window.ended == len(window.reasons))

    def _give_back(self, key: Hashable, window: Window) -> None:
        with self._changed:
            window.users -= 1
            if not window.users and window.spent:
                self._drop(key)
            self._changed.notify_all()

    def _drop(self, key: Hashable) -> None:
        self._size -= self._windows.pop(key).store.nbytes
