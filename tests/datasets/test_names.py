"""Packed lists of names."""

import pickle
import tracemalloc

import numpy as np
import pytest

from ngvae_tools.datasets import names
from ngvae_tools.datasets.names import NameGatherer


def gathered(some):
    gatherer = NameGatherer()
    for name in some:
        gatherer.add(name)
    return gatherer.packed()


@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 8, 14, 100])
def test_names_come_out_sorted_by_bytes(count, monkeypatch):
    monkeypatch.setattr(names, "_SORTED_AT_ONCE", 7)
    rng = np.random.default_rng(count)
    some = [bytes(rng.integers(1, 256, rng.integers(1, 300)).astype(np.uint8)) for _ in range(count)]
    packed = gathered(some)
    assert list(packed) == sorted(some)
    assert [packed[k] for k in range(len(packed))] == sorted(some)
    assert packed[1:5] == sorted(some)[1:5]
    assert list(pickle.loads(pickle.dumps(packed))) == sorted(some)


def test_runs_longer_than_a_piece_of_inflating(monkeypatch):
    monkeypatch.setattr(names, "_SORTED_AT_ONCE", 5000)
    some = [b"folder/%d.png" % number for number in range(12_345)]
    assert list(gathered(some)) == sorted(some)


def test_numbers_outside_are_refused():
    packed = gathered([b"a", b"b"])
    assert (packed[-1], packed[-2]) == (b"b", b"a")
    for number in (2, -3):
        with pytest.raises(IndexError):
            packed[number]


@pytest.mark.parametrize("length", [12, 30, 80])
def test_a_name_costs_its_bytes_and_little_more(length):
    count = 100_000
    tracemalloc.start()
    packed = gathered(b"%0*d" % (length, number * 7919 % count) for number in range(count))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(packed) == count
    assert held < (length + 9) * count
    assert peak < 120 * count
