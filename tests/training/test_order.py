"""The order of an epoch, and how processes share it."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngvae_tools.errors import OptionError
from ngvae_tools.training.order import Partition, epoch_order


@st.composite
def shares(draw):
    """Rows of a training share, some rows left out."""
    n = draw(st.integers(1, 400))
    kept = np.random.default_rng(draw(st.integers(0, 99))).random(n) < draw(st.sampled_from([0.1, 0.9, 1.0]))
    kept[draw(st.integers(0, n - 1))] = True
    return np.flatnonzero(kept)


def order(train, **options):
    return list(epoch_order(train, **({"block": 4, "window": 50, "seed": 0, "epoch": 1} | options)))


@example(np.delete(np.arange(358), np.arange(4, 358, 9)), 17, 16, 1)  # blocks of unlike fullness
@given(shares(), st.integers(1, 40), st.integers(1, 100), st.integers(1, 5))
def test_windows_hold_every_image_once(train, block, window, epoch):
    windows = order(train, block=block, window=window, epoch=epoch)
    np.testing.assert_array_equal(np.sort(np.concatenate(windows)), train)
    assert all(0 < len(rows) < window + block for rows in windows)
    again = order(train, block=block, window=window, epoch=epoch)
    assert all(map(np.array_equal, windows, again))


@given(shares(), st.integers(1, 40), st.integers(1, 100))
def test_a_block_lies_in_one_window(train, block, window):
    seen = [set((rows // block).tolist()) for rows in order(train, block=block, window=window)]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_seed_and_epoch_decide():
    train = np.arange(300)
    orders = [np.concatenate(order(train, seed=s, epoch=e)) for s, e in ((0, 1), (0, 2), (1, 1))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.mean(orders[one] == orders[other]) < 0.1


def test_one_window_is_a_uniform_permutation():
    # 5! orders of five images, however they lie in blocks: chi-squared of 119 degrees of freedom.
    n = 6_000
    counts = {}
    for epoch in range(n):
        (rows,) = order(np.arange(5), block=3, window=5, epoch=epoch)
        counts[tuple(rows)] = counts.get(tuple(rows), 0) + 1
    assert len(counts) == 120
    statistic = sum((count - n / 120) ** 2 / (n / 120) for count in counts.values())
    assert abs(statistic - 119) < 4 * np.sqrt(2 * 119)


def test_windows_mix_what_lies_sorted():
    # Rows sorted by class. A random batch has the multinomial's variance; a window of 500 of 3200 blocks, each of one
    # class, adds that of a cluster sample's share.
    classes = np.concatenate(order(np.arange(64_000), block=20, window=10_000)) // 6400
    counts = np.stack([np.bincount(batch, minlength=10) for batch in classes.reshape(-1, 64)])
    share = 0.1 * 0.9
    assert counts.var() == pytest.approx(64 * share + 64**2 * share / 500 * (1 - 500 / 3200), rel=0.05)


@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 60),
    st.data(),
)
def test_processes_share_each_epoch(n, batch_size, world, window, data):
    if n < world:
        with pytest.raises(OptionError, match="processes"):
            Partition(n, batch_size, world)
        return
    windows = order(np.arange(n), window=window)
    partitions = [Partition(n, batch_size, world, rank) for rank in range(world)]
    shares = [np.concatenate(list(p.share(iter(windows)))) for p in partitions]
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), np.arange(n))
    sizes = [list(p.sizes()) for p in partitions]
    assert {len(s) for s in sizes} == {partitions[0].steps}
    assert all(0 < size <= batch_size + 1 for s in sizes for size in s)
    assert all(max(step) - min(step) <= 1 for step in zip(*sizes, strict=True))
    assert [sum(s) for s in sizes] == [len(share) for share in shares]
    # A step of all processes together is a stretch of the one order.
    together = np.concatenate(windows)
    ends = np.cumsum([sum(step) for step in zip(*sizes, strict=True)])
    pieces = [np.split(share, np.cumsum(s)[:-1]) for share, s in zip(shares, sizes, strict=True)]
    for step, stretch in enumerate(np.split(together, ends[:-1])):
        np.testing.assert_array_equal(np.concatenate([piece[step] for piece in pieces]), stretch)
    # Leaving steps out leaves the others as they were.
    skip = data.draw(st.integers(0, partitions[0].steps))
    for partition, share, s in zip(partitions, shares, sizes, strict=True):
        rest = list(partition.share(iter(windows), skip))
        np.testing.assert_array_equal(np.concatenate(rest) if rest else [], share[sum(s[:skip]) :])
        assert list(partition.sizes(skip)) == s[skip:]


def test_one_process_takes_full_batches_and_a_last_one():
    assert list(Partition(10, 4).sizes()) == [4, 4, 2]
    assert list(Partition(8, 4).sizes()) == [4, 4]
    assert list(Partition(3, 4).sizes()) == [3]
    # Two processes: nine images in steps of four leave one, which joins the step before.
    assert [list(Partition(9, 2, 2, rank).sizes()) for rank in (0, 1)] == [[2, 2], [2, 3]]
