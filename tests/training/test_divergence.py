"""Divergence is told from noise, spikes and slow starts."""

import math

import numpy as np
import pytest

from ngvae_tools.training.divergence import DivergenceWatch

PIXELS = 3072


def first_found(losses):
    watch = DivergenceWatch(PIXELS)
    return next((step for step, loss in enumerate(losses, 1) if watch.check(loss) is not None), None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite(bad):
    assert first_found([100.0, bad]) == 2


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_healthy_losses(scale):
    random = np.random.default_rng(0)
    falling = scale * (50 + 2000 * np.exp(-np.arange(2000) / 100)) * random.lognormal(0, 0.3, 2000)
    assert first_found(falling) is None
    spiked = falling.copy()
    spiked[500::100] *= 20
    assert first_found(spiked) is None


def test_losses_that_cross_zero_as_with_a_learned_sigma():
    losses = np.linspace(5000, -7000, 4001) + np.random.default_rng(0).normal(0, 100, 4001)
    assert first_found(losses) is None


def test_an_explosion_is_found_at_once():
    assert first_found([1000.0, 100.0, 50.0, 2e5]) == 4


def test_a_loss_that_stays_high_is_found_within_ten_looks():
    assert first_found([1000.0, 50.0, *[3000.0] * 20]) == 12
    assert first_found([1000.0, 50.0, *([3000.0] * 9 + [60.0]) * 3]) is None


def test_a_resumed_watch_knows_the_best():
    watch, other = DivergenceWatch(PIXELS), DivergenceWatch(PIXELS)
    watch.check(50.0)
    other.load_state_dict(watch.state_dict())
    assert other.check(2e5) is not None
    other.restart()
    assert other.check(2e5) is None
