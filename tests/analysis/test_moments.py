"""Moments against numpy, under any split and order, and to the bit where that is promised."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngvae_tools.analysis.moments import BLOCK, Moments

EPS = np.finfo(np.float64).eps


@st.composite
def splits(draw):
    """Rows, and the same rows cut into pieces (empty ones too) in a random order."""
    n, dim = draw(st.integers(2, 60)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    offset, scale = draw(st.sampled_from([0.0, 1.0, -1e4])), draw(st.sampled_from([1e-6, 1.0, 1e4]))
    rows = offset + scale * rng.normal(size=(n, dim))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=12)))
    return rows, draw(st.permutations(np.split(rows, cuts)))


def close(moments, rows):
    """Within 8 n rounding errors of the largest product, for moments of either kind."""
    size = np.abs(rows).max()
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=0, atol=8 * len(rows) * EPS * size)
    covariance = np.atleast_2d(np.cov(rows, rowvar=False))
    expected = np.diag(covariance) if moments.comoment.ndim == 1 else covariance
    np.testing.assert_allclose(moments.covariance(), expected, rtol=0, atol=8 * len(rows) * EPS * size**2)


@given(splits(), st.booleans())
def test_any_split_and_any_order_agree_with_numpy(split, diagonal):
    rows, pieces = split
    moments = Moments.empty(rows.shape[1], diagonal=diagonal)
    for piece in pieces:
        moments = moments.update(piece)
    assert moments.count == len(rows)
    close(moments, rows)


@given(splits(), st.booleans())
def test_merging_in_pairs_agrees_too(split, diagonal):
    rows, pieces = split
    parts = [Moments.of(piece, diagonal=diagonal) for piece in pieces]
    while len(parts) > 1:
        pairs = [a.merge(b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[len(parts) // 2 * 2 :]
    close(parts[0], rows)


@given(splits())
def test_diagonal_moments_are_the_diagonal_of_full_ones(split):
    rows, pieces = split
    full, diagonal = Moments.empty(rows.shape[1]), Moments.empty(rows.shape[1], diagonal=True)
    for piece in pieces:
        full, diagonal = full.update(piece), diagonal.update(piece)
    np.testing.assert_array_equal(full.mean, diagonal.mean)
    tolerance = 8 * len(rows) * EPS * np.abs(rows).max() ** 2
    np.testing.assert_allclose(np.diag(full.comoment), diagonal.comoment, rtol=0, atol=tolerance)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 3000), max_size=8), st.sampled_from([np.float32, np.float64]))
def test_blocks_merged_in_index_order_do_not_depend_on_batches(cuts, dtype):
    rows = np.random.default_rng(5).normal(size=(3000, 15)).astype(dtype)

    def in_blocks(values):
        moments = Moments.empty(15)
        for start in range(0, len(values), BLOCK):
            moments = moments.update(values[start : start + BLOCK])
        return moments

    whole, batched = in_blocks(rows), in_blocks(np.concatenate(np.split(rows, sorted(cuts))))
    assert batched.mean.tobytes() == whole.mean.tobytes()
    assert batched.comoment.tobytes() == whole.comoment.tobytes()


@pytest.mark.parametrize("dim", [1, 15, 64])
def test_the_memory_layout_changes_no_bit(dim):
    rows = np.random.default_rng(6).normal(size=(1000, dim)).astype(np.float32)
    wide = np.zeros((2000, 2 * dim), np.float32)
    wide[::2, ::2] = rows
    unaligned = np.frombuffer(b"\0" + rows.tobytes(), np.uint8)[1:].view(np.float32).reshape(rows.shape)
    for layout in (np.asfortranarray(rows), wide[::2, ::2], rows.astype(np.float64), unaligned):
        for diagonal in (False, True):
            one, other = Moments.of(rows, diagonal=diagonal), Moments.of(layout, diagonal=diagonal)
            assert one.mean.tobytes() == other.mean.tobytes()
            assert one.comoment.tobytes() == other.comoment.tobytes()


THREADS = """
import hashlib, pathlib, re
import numpy as np
from ngvae_tools.analysis.moments import Moments
digest = hashlib.sha256()
for dim in (15, 64, 256):
    rows = np.random.default_rng(dim).normal(size=(3, 1024, dim))
    moments = Moments.empty(dim)
    for block in rows:
        moments = moments.update(block)
    digest.update(moments.mean.tobytes() + moments.comoment.tobytes())
status = pathlib.Path("/proc/self/status")
threads = re.search(r"Threads:\\s*(\\d+)", status.read_text())[1] if status.exists() else 0
print(digest.hexdigest(), threads)
"""


def test_threads_of_blas_change_no_bit():
    found = []
    for threads in ("1", "2"):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, threads)
        command = [sys.executable, "-c", THREADS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(done.stdout.split())
    assert found[0][0] == found[1][0]
    # Else the environment was not heard and the comparison says nothing.
    if (os.cpu_count() or 1) > 1 and sys.platform.startswith("linux"):
        assert int(found[0][1]) < int(found[1][1])


def test_a_large_offset_does_not_lose_the_covariance():
    rng = np.random.default_rng(7)
    noise = rng.normal(size=(5000, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 0.1]])
    rows = 1e8 + noise
    stored = rows - 1e8  # exact: what is left of the noise in float64
    moments = Moments.empty(3)
    for start in range(0, 5000, BLOCK):
        moments = moments.update(rows[start : start + BLOCK])
    # A sum over a block rounds by at most BLOCK eps 1e8 / 2 = 1.1e-5 a row; times the 4 / sqrt(BLOCK) by which
    # means of blocks differ, twice, that is 2.8e-6. Sums of squares about 0 would be off by more than 1.
    np.testing.assert_allclose(moments.covariance(), np.cov(stored, rowvar=False), rtol=0, atol=2.8e-6)
    naive = (rows.T @ rows - 5000 * np.outer(rows.mean(axis=0), rows.mean(axis=0))) / 4999
    assert np.abs(naive - moments.covariance()).max() > 1


def test_monte_carlo_of_a_known_law():
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    rows = np.random.default_rng(8).multivariate_normal([3, -1], covariance, size=100_000)
    moments = Moments.empty(2)
    for start in range(0, len(rows), BLOCK):
        moments = moments.update(rows[start : start + BLOCK])
    n, diagonal = len(rows), np.diag(covariance)
    assert (np.abs(moments.mean - [3, -1]) < 4 * np.sqrt(diagonal / n)).all()
    # Isserlis: Var(c_ij) = (c_ii c_jj + c_ij^2) / n
    error = np.sqrt((np.outer(diagonal, diagonal) + covariance**2) / n)
    assert (np.abs(moments.covariance() - covariance) < 4 * error).all()


@pytest.mark.parametrize("diagonal", [False, True])
def test_an_empty_block_changes_nothing(diagonal):
    rows = np.random.default_rng(9).normal(size=(7, 4))
    moments, nothing = Moments.of(rows, diagonal=diagonal), Moments.of(rows[:0], diagonal=diagonal)
    assert (nothing.count, nothing.comoment.shape) == (0, moments.comoment.shape)
    assert moments.merge(nothing) is moments
    assert nothing.merge(moments) is moments


def test_one_row_has_a_mean_and_no_spread():
    moments = Moments.of(np.array([[3.0, -2.0]]))
    np.testing.assert_array_equal(moments.mean, [3, -2])
    np.testing.assert_array_equal(moments.comoment, np.zeros((2, 2)))


@pytest.mark.parametrize("rows", [0, 1])
def test_a_covariance_of_fewer_than_two_rows_raises(rows):
    with pytest.raises(ValueError, match=f"at least two rows, got {rows}"):
        Moments.of(np.ones((rows, 3))).covariance()
