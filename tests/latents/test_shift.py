"""The shift that codes of more than a byte get."""

import numpy as np
import pytest

from ngvae_tools.latents.census import Census
from ngvae_tools.latents.coding import Coding
from ngvae_tools.latents.grid import Grid
from ngvae_tools.latents.packing import pack


@pytest.mark.parametrize("deviation", [20, 60, 100, 500])
def test_no_other_shift_packs_gaussian_chunks_noticeably_smaller(deviation):
    numbers = np.rint(np.random.default_rng(1).normal(size=(5 * 4096, 1)) * deviation).astype(np.int64)
    numbers[0] = numbers.min() + 600
    census = Census(1)
    census.add(numbers)
    shift = Coding.of(Grid(np.ones(1)), census, chunk_rows=4096).shift[0]
    codes = (numbers - numbers.min())[:, 0]

    def size(bits):
        return sum(len(pack((part << bits).astype("<u2"))) for part in np.split(codes, 5))

    room = 16 - int(np.ptp(codes)).bit_length()
    assert size(shift) <= 1.005 * min(size(bits) for bits in range(room + 1))


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_few_rows_get_a_shift(rows):
    census = Census(2)
    census.add(np.arange(2 * rows).reshape(rows, 2) * 300)
    assert (Coding.of(Grid(np.ones(2)), census, chunk_rows=4096).shift >= 0).all()
