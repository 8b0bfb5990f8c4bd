"""Counting numbers, laying them out as codes, and packing these."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ngvae_tools.errors import OutputError
from ngvae_tools.latents import census as counting
from ngvae_tools.latents.census import Census, entropy_of
from ngvae_tools.latents.coding import Coding
from ngvae_tools.latents.grid import Grid
from ngvae_tools.latents.packing import DamagedError, pack, unpack


def counted(numbers, cuts=()):
    census = Census(numbers.shape[1])
    for part in np.split(numbers, sorted(cuts)):
        census.add(part)
    return census


class TestCensus:
    @given(st.integers(0, 300), st.integers(1, 4), st.integers(0, 2**32), st.lists(st.integers(0, 300), max_size=5))
    def test_counts_of_any_cut(self, n, dim, seed, cuts):
        rng = np.random.default_rng(seed)
        numbers = rng.integers(-1000, 1000, (n, dim)) // rng.integers(1, 500, dim)
        census = counted(numbers, cuts)
        assert census.n_rows == n
        for k, column in enumerate(numbers.T):
            low, high = (column.min(), column.max()) if n else (0, 0)
            assert (census.low[k], census.span[k]) == (low, high - low)
            expected = np.bincount(column - low) if n else np.zeros(0)
            np.testing.assert_array_equal(census.counts(k), expected)
            share = expected[expected > 0] / max(n, 1)
            assert census.entropy()[k] == pytest.approx(-(share * np.log2(share)).sum())

    def test_more_numbers_than_can_be_counted(self, monkeypatch):
        monkeypatch.setattr(counting, "MOST_COUNTERS", 2000)
        census = counted(np.array([[0, 0], [5000, 1]]))
        assert census.entropy() is None
        assert census.counts(1) is None
        assert census.span.tolist() == [5000, 1]

    def test_entropy_of_known_laws(self):
        assert entropy_of(np.full(8, 5)) == pytest.approx(3)
        assert entropy_of(np.array([0, 7, 0])) == 0
        assert entropy_of(np.zeros(3)) == 0


class TestCoding:
    @pytest.mark.parametrize(
        ("span", "dtype"),
        [(0, "u1"), (255, "u1"), (256, "u2"), (65_535, "u2"), (65_536, "u4"), (2**32 - 1, "u4")],
    )
    def test_the_type_is_the_smallest_that_holds_every_code(self, span, dtype):
        numbers = np.array([[-7, 3], [span - 7, 4]])
        grid = Grid(np.array([0.25, 0.5]))
        coding = Coding.of(grid, counted(numbers), chunk_rows=2)
        assert coding.dtype == np.dtype(dtype)
        values = grid.step * numbers
        np.testing.assert_array_equal(coding.decode(coding.encode(values)), values)
        assert coding.encode(values).dtype == coding.dtype

    def test_more_levels_than_a_code_holds(self):
        with pytest.raises(OutputError, match=r"at most 2\*\*32 levels"):
            Coding.of(Grid(np.ones(1)), counted(np.array([[0], [2**32]])), chunk_rows=2)

    @given(st.integers(0, 2**32), st.integers(1, 3), st.floats(0.5, 2000), st.booleans())
    @settings(max_examples=50, deadline=None)
    def test_offset_and_scale_give_the_values_exactly(self, seed, dim, spread, shifted):
        values = np.random.default_rng(seed).normal(3, spread, (500, dim))
        grid = Grid.fit(np.random.default_rng(seed).uniform(0.5, 2, dim), values.min(0), values.max(0))
        numbers = grid.numbers(values)
        coding = Coding.of(grid, counted(numbers), chunk_rows=500, shifted=shifted)
        codes = coding.encode(values)
        np.testing.assert_array_equal(coding.offset + coding.scale * codes.astype(np.float64), grid.step * numbers)
        assert ((codes >> coding.shift << coding.shift) == codes).all()

    def test_wide_codes_put_most_into_the_upper_byte(self):
        values = np.random.default_rng(0).normal(0, 100, (50_000, 1))
        grid = Grid(np.ones(1))
        census = counted(grid.numbers(values))
        sizes = {
            shifted: len(pack(Coding.of(grid, census, chunk_rows=4096, shifted=shifted).encode(values)[:4096, 0]))
            for shifted in (False, True)
        }
        assert sizes[True] < 0.97 * sizes[False]
        assert sizes[True] < 1.035 * 4096 / 8 * census.entropy()[0]

    def test_tiled_columns(self):
        coding = Coding.of(Grid(np.array([0.5, 2.0])), counted(np.array([[0, 10], [5, 400]])), chunk_rows=2)
        tiled = coding.tiled(3)
        np.testing.assert_array_equal(tiled.offset, np.tile(coding.offset, 3))
        np.testing.assert_array_equal(tiled.scale, np.tile(coding.scale, 3))

    def test_float32_is_kept_bit_for_bit(self):
        coding = Coding.lossless(2)
        values = np.array([[0.1, -1e-40], [np.pi, 3e38]], np.float32)
        assert not coding.quantised
        np.testing.assert_array_equal(coding.decode(coding.encode(values.astype(np.float64))), values)


KINDS = ["<u1", "<u2", "<u4", "<f4", "<i8", "<f8", "S5", "S40"]


class TestPacking:
    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_any_values_come_back(self, data):
        kind = data.draw(st.sampled_from(KINDS))
        values = data.draw(arrays.arrays(kind, st.integers(1, 300)))
        packed = pack(values)
        assert unpack(packed, values.dtype, len(values)).tobytes() == values.tobytes()
        # A zlib stream of the shuffled bytes, as HDF5's own filters read it.
        planes = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1).T
        assert zlib.decompress(packed) == planes.tobytes()

    @pytest.mark.parametrize("values", [np.zeros(4096, np.uint16), np.arange(4096, dtype=np.uint32)])
    def test_what_repeats_takes_little(self, values):
        assert len(pack(values)) < values.nbytes / 10

    def test_damaged_bytes(self):
        values = np.random.default_rng(0).integers(0, 50, 1000).astype(np.uint8)
        packed = pack(values)
        for wrong in (
            packed[:-1],
            packed[:-5],
            b"",
            packed[:3],
            pack(values[:-1]),
            pack(np.append(values, values[:1])),
        ):
            with pytest.raises(DamagedError):
                unpack(wrong, values.dtype, 1000)

    def test_a_stream_that_inflates_without_end(self):
        with pytest.raises(DamagedError, match="does not hold"):
            unpack(zlib.compress(bytes(2**26)), np.dtype(np.uint8), 1000)
