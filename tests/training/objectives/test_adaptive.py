"""The mixture with learned prior weights: its bound, what its prior weights follow, and when they begin to."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from ngvae_tools.posteriors import family_of
from ngvae_tools.training.objectives import AdaptiveObjective, MixtureObjective

ONE_NAT = 1.0
NO_PRICE = math.log(2)  # pi = 1/2: L = 0


def double(values):
    return torch.tensor(values, dtype=torch.float64)


PATTERNS = {kind: kind(1).double() for kind in (AdaptiveObjective, MixtureObjective)}
"""Copied, for the tables of the laws take long to make."""


def objective_of(kind, prior_nats, dim=1):
    objective = copy.deepcopy(PATTERNS[kind]) if dim == 1 else kind(dim).double()
    objective.prior_nats = prior_nats
    return objective


def settled(dim=1, prior_nats=ONE_NAT, weights=None, steps=0):
    objective = objective_of(AdaptiveObjective, prior_nats, dim)
    objective.steps.fill_(steps)
    if weights is not None:
        objective.mean_weight.copy_(double(weights))
    return objective


def family(objective):
    return family_of("normal-gamma-mixture", len(objective.mean_weight), objective.hyperparameters())


@given(st.floats(-8, 8), st.floats(-3, 3), st.floats(0.1, 4))
def test_before_the_dimensions_separate_it_charges_what_the_mixture_charges(raw, mu, prior_nats):
    adaptive, mixture = objective_of(AdaptiveObjective, prior_nats), objective_of(MixtureObjective, prior_nats)
    heads = double([[mu]]), double([[raw]])
    assert float(adaptive.rate(*heads).detach()) == pytest.approx(float(mixture.rate(*heads).detach()), abs=1e-9)


@given(st.floats(-8, 8), st.floats(-3, 3), st.floats(0.001, 0.999), st.floats(0.1, 4), st.integers(0, 2000))
def test_the_loss_stays_a_bound_while_the_index_is_charged_more(raw, mu, weight, prior_nats, steps):
    objective = settled(prior_nats=prior_nats, weights=[weight], steps=steps)
    charged = float(objective.rate(double([[mu]]), double([[raw]])).detach())
    # The exported family charges the plain bound with the learned prior.
    p = 1 / (1 + math.exp(-raw))
    plain = float(family(objective).posterior(np.array([[mu]]), np.array([[p]])).rate[0, 0])
    assert charged >= plain - 1e-6
    if steps == 0:
        assert charged == pytest.approx(plain, abs=1e-6)


def test_the_index_is_charged_five_times_after_the_ramp():
    raw = double([[0.3], [-2.0]])
    once, later = (settled(weights=[0.2], steps=steps).index_rate(raw) for steps in (0, AdaptiveObjective.RAMP))
    assert torch.allclose(later, 5 * once)


def test_without_a_price_the_prior_weight_followed_is_the_best_one():
    weights = np.array([0.9, 0.2, 0.05, 0.6, 0.97])
    raw = double(np.log((1 - weights) / weights)[:, None])

    def cost(mean_weight):
        return float(settled(prior_nats=NO_PRICE, weights=[mean_weight]).index_rate(raw).mean())

    best = optimize.minimize_scalar(cost, bounds=(0.01, 0.99), method="bounded", options={"xatol": 1e-8}).x
    assert best == pytest.approx(weights.mean(), abs=1e-6)
    # What remains is the mutual information of law and image: H(mean of w) - mean of H(w).
    entropy = lambda w: -w * np.log(w) - (1 - w) * np.log(1 - w)  # noqa: E731
    assert cost(weights.mean()) == pytest.approx(entropy(weights.mean()) - entropy(weights).mean(), abs=1e-9)


@given(st.floats(0.2, 3), st.floats(0.01, 0.99))
def test_the_price_is_what_an_informative_dimension_costs_more(prior_nats, weight):
    dear = settled(prior_nats=prior_nats, weights=[weight]).hyperparameters()["prior_weight"][0]
    free = settled(prior_nats=NO_PRICE, weights=[weight]).hyperparameters()["prior_weight"][0]
    price = math.log(math.exp(prior_nats) - 1)
    assert math.log(free / (1 - free)) - math.log(dear / (1 - dear)) == pytest.approx(price, abs=1e-6)


def test_the_prior_weights_follow_the_mean_weight_once_settled():
    objective = AdaptiveObjective(2)
    raw = torch.tensor([[-20.0, 20.0], [-20.0, 20.0]])
    seen = objective.observe(raw, raw, raw)
    objective.absorb(seen)
    assert objective.mean_weight.tolist() == [0.5, 0.5]
    objective.settle(torch.tensor([0.5, 0.5]), plateau=True, steps=80)
    for _ in range(2000):
        objective.absorb(seen)
    assert objective.mean_weight.tolist() == pytest.approx([0.999, 0.001], abs=1e-5)
    assert int(objective.steps) == 2000


def test_the_mean_weight_moves_by_a_fiftieth_of_the_way():
    objective = settled(weights=[0.5])
    objective.absorb(double([0.7]))
    assert float(objective.mean_weight) == pytest.approx(0.504)


USED, UNUSED = 0.01, 0.65


def told(epochs, *, plateau=False, steps=200):
    objective = AdaptiveObjective(2)
    return [objective.settle(torch.tensor(p), plateau=plateau, steps=steps) for p in epochs]


def first(epochs, steps):
    """The epoch at whose end it settles, from 1; None where it does not."""
    signs = told(epochs, steps=steps)
    return signs.index(True) + 1 if True in signs else None


@pytest.mark.parametrize(("steps", "epoch"), [(42, 20), (79, 12), (80, 10), (85, 10), (400, 4), (1, 800)])
def test_it_does_not_settle_before_800_steps(steps, epoch):
    assert first([[USED, UNUSED]] * 900, steps) == epoch


def test_epochs_of_few_steps_are_pooled():
    # p moves by 0.02 an epoch: little in one, too much in the two that make 80 steps.
    moving = [[USED, 0.02 * k] for k in range(50)]
    assert first(moving, 42) is None
    assert first(moving, 85) == 10
    # A pool is the mean of its epochs.
    assert first([[USED, 0.5], [USED, 0.6]] * 20, 42) == 20
    assert first([[USED, 0.5], [USED, 0.6]] * 20, 85) is None


def test_pooled_epochs_travel_in_the_state_dict():
    epochs = [[USED, 0.02 * k % 0.1] for k in range(30)]
    expected = first(epochs, 42)
    objective = AdaptiveObjective(2)
    found = None
    for number, p in enumerate(epochs, 1):
        other = AdaptiveObjective(2)
        other.load_state_dict(objective.state_dict())
        objective = other
        if objective.settle(torch.tensor(p), plateau=False, steps=42):
            found = number
    assert found == expected


def test_it_settles_after_three_epochs_without_a_move():
    assert told([[USED, UNUSED]] * 6) == [False, False, False, True, False, False]


def test_a_move_begins_the_count_anew():
    epochs = [[USED, 0.5], [USED, 0.55], [USED, 0.56], [USED, 0.57], [USED, 0.58]]
    assert told(epochs) == [False, False, False, False, True]


def test_it_does_not_settle_while_nothing_is_informative():
    assert told([[0.6, UNUSED]] * 8) == [False] * 8


def test_the_first_plateau_settles_it_at_the_latest():
    assert told([[0.6, UNUSED]] * 2, plateau=True) == [True, False]


@pytest.mark.parametrize("prior_nats", [NO_PRICE, ONE_NAT, 2.0])
def test_an_unused_dimension_rests_where_the_family_says(prior_nats):
    objective = settled(prior_nats=prior_nats)
    # The scale at which the informative law costs least.
    alpha = objective.mixture.informative_alpha
    with torch.no_grad():
        objective.log_scale.fill_(0.5 * math.log((alpha - 1) / alpha))

    def best_weight():
        def cost(raw):
            return float(objective.rate(double([[0.0]]), double([[raw]])).detach())

        raw = optimize.minimize_scalar(cost, bounds=(-15, 15), method="bounded", options={"xatol": 1e-6}).x
        return 1 / (1 + math.exp(raw))

    assert best_weight() == pytest.approx(0.348 if prior_nats == ONE_NAT else best_weight(), abs=1e-3)
    # The mean weight falls with the weight, down to its floor.
    for _ in range(120):
        objective.mean_weight.fill_(min(max(best_weight(), objective.LEAST), 1 - objective.LEAST))
    assert float(objective.mean_weight) == pytest.approx(objective.LEAST)
    assert 1 - best_weight() == pytest.approx(family(objective).rest_p, abs=1e-4)


def test_before_it_settles_an_unused_dimension_rests_at_the_mixture_s_point():
    assert family(AdaptiveObjective(3)).rest_p == pytest.approx(family_of("normal-gamma-mixture", 3, {}).rest_p)
    assert family(settled(3, steps=AdaptiveObjective.RAMP)).rest_p > 0.999


def test_while_the_ramp_lasts_an_unused_dimension_is_where_the_least_used_one_has_come():
    def unused(**state):
        return settled(3, **state).hyperparameters()["unused_prior_weight"]

    start = math.exp(-ONE_NAT)
    assert unused(steps=0) == pytest.approx(start)
    few = settled(3, weights=[0.9, 0.2, 0.4], steps=300).hyperparameters()
    assert few["unused_prior_weight"] == few["prior_weight"][1] < start
    # All dimensions are used: none tells where an unused one would be.
    assert unused(weights=[0.9, 0.8, 0.95], steps=300) == pytest.approx(start)
    assert unused(weights=[0.9, 0.8, 0.95], steps=800) < 1e-3


def test_it_says_how_far_it_has_come():
    found = [settled(steps=steps) for steps in (-1, 0, 400, 800, 900)]
    assert [objective.adapted for objective in found] == [0, 0, 0.5, 1, 1]
    assert [objective.changing for objective in found] == [False, True, True, False, False]
    assert MixtureObjective(1).adapted is None


@pytest.mark.parametrize(("steps", "means"), [(-1, [2, 2, 2]), (0, [2, 2, 2]), (400, [2, 1.5, 1]), (800, [2, 1, 0])])
def test_the_mean_comes_to_be_gated_by_the_weight(steps, means):
    objective = settled(3, steps=steps)
    mean = objective.mean(double([[2.0, 2.0, 2.0]]), double([[-30.0, 0.0, 30.0]]))
    assert mean[0].tolist() == pytest.approx(means, abs=1e-9)


def test_the_state_travels_in_the_state_dict():
    objective = settled(2, weights=[0.9, 0.1], steps=7)
    other = AdaptiveObjective(2).double()
    other.load_state_dict(objective.state_dict())
    assert other.hyperparameters() == objective.hyperparameters()
    assert int(other.steps) == 7
