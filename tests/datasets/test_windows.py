"""Windows shared by threads: decoded once, within the limit, and never waited for in vain."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import numpy as np
import pytest

from ngvae_tools.datasets.windows import WindowCache


def test_threads_decode_the_parts_of_one_window_together():
    cache = WindowCache(100)
    meet = Barrier(2, timeout=10)
    decoded = []

    def decode(store, number):
        # Passes only if two threads decode at once.
        meet.wait()
        decoded.append(number)
        store[number] = number

    def use(row):
        with cache.open(0, rows=2, parts=4, make=lambda: np.empty(4, np.uint8), decode=decode) as window:
            window.serve(row, row + 1)
            return window.store.tolist()

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(use, range(2))] == [[0, 1, 2, 3]] * 2
    assert sorted(decoded) == [0, 1, 2, 3]
    assert cache.size == 0


@pytest.mark.parametrize("limit", [10, 25, 1000])
def test_the_limit_holds_for_any_order_of_many_threads(limit):
    cache = WindowCache(limit)
    lock = Lock()
    held = most = 0

    def decode(store, number):
        time.sleep(0.0005)
        store[number] = number

    def use(key):
        nonlocal held, most
        with cache.open(key, rows=2, parts=2, make=lambda: np.empty(10, np.uint8), decode=decode) as window:
            with lock:
                most = max(most, cache.size)
            assert window.store[:2].tolist() == [0, 1]
            window.serve(0, 1 + int(key) % 2)

    order = np.random.default_rng(0).integers(0, 12, 400)
    with ThreadPoolExecutor(6) as pool:
        for _ in pool.map(use, order, timeout=60):
            pass
    assert 10 <= most <= max(limit, 10)
    cache.clear()
    assert cache.size == 0


def test_what_fails_in_one_thread_is_started_again_by_the_others():
    cache = WindowCache(100)
    meet = Barrier(2, timeout=10)
    seen = set()

    def decode(_, number):
        # Both threads are in the window when the first part fails, the first time.
        if number < 2 and number not in seen:
            seen.add(number)
            meet.wait()
            if number == 0:
                raise MemoryError

    def use(_):
        try:
            with cache.open(0, rows=1, parts=3, make=lambda: np.empty(10, np.uint8), decode=decode) as window:
                return len(window.reasons)
        except MemoryError:
            return "failed"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(map(str, pool.map(use, range(2), timeout=20))) == ["3", "failed"]
    assert cache.size == 10


def test_a_window_larger_than_the_limit_is_used_alone():
    cache = WindowCache(5)
    with cache.open(0, rows=1, parts=1, make=lambda: np.empty(50), decode=lambda *_: None) as window:
        window.serve(0, 1)
    assert cache.size == 0
