"""What the benchmark runs."""

import math

import pytest

from ngvae_tools.datasets.factor_sets import find_set
from ngvae_tools.errors import OptionError
from ngvae_tools.factors import Factors
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.workflows.benchmark.presets import MODELS, PRESETS, chosen, find_preset

INTERVALS = {
    "sprites": (6, 7),
    "places": (2, 2),
    "grid": (6, 7),
    "dsprites-like": (6, 7),
    "3dshapes-like": (9, 11),
    "3dshapes-shifted": (10, 12),
}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_cell_can_be_configured(preset):
    for name in preset.models:
        for latent_dim in preset.latent_dims:
            config = preset.config(MODELS[name], latent_dim, 3, device="cpu")
            assert (config.latent_dim, config.seed) == (latent_dim, 3)
            assert preset.config(MODELS[name], latent_dim, 3, epochs=1).epochs == 1


def test_section_iv_as_printed():
    preset = PRESETS["paper"]
    assert [each.size for each in preset.data] == [64]
    assert preset.latent_dims == (15,)
    found = {name: preset.config(MODELS[name], 15, 0) for name in preset.models}
    printed = {name: found[name] for name in ("vae-printed", "beta-27", "beta-150", "paper-printed")}
    assert all(config.sigma == 0.02 and config.learning_rate == 1e-3 for config in printed.values())
    assert [config.resolved_beta for config in printed.values()] == [1, 27, 150, 1]
    assert printed["paper-printed"].resolved_objective == "paper"
    assert printed["paper-printed"].gradient == "g-rep"
    beside = [found["vae"], found["default"]]
    assert [config.sigma for config in beside] == [0.245, 0.245]
    assert 0.02 * math.sqrt(150) == pytest.approx(0.245, abs=1e-4)
    assert found["default"] == TrainingConfig()
    assert all(config.epochs is None for config in found.values())


def test_quick_is_small():
    preset = PRESETS["quick"]
    assert [(each.size, each.images) for each in preset.data] == [(32, 6000)]
    assert {"vae", "paper", "default"} <= set(preset.models)
    assert preset.seeds == 2


def test_full_has_factors_of_every_kind_and_number():
    preset = PRESETS["full"]
    assert preset.latent_dims == (10, 15, 30)
    assert preset.seeds == 5
    assert {"beta-vae", "beta-tcvae", "factor-vae", "ard-vae", "fondue", "least-volume"} <= set(preset.models)
    varied = set()
    for each in preset.data:
        chosen_set = find_set(each.image_set)
        values = chosen_set.sample(2000, 0, grid=each.grid, fixed=each.fixed)
        factors = Factors.of(chosen_set.names, values, kinds=chosen_set.kinds)
        assert factors.intrinsic_interval() == INTERVALS[each.name]
        varied.add(len(chosen_set.names) - len(each.fixed))
    assert {2, 7} <= varied


def test_other_models_and_seeds():
    preset = chosen(find_preset("quick"), models=("vae",), seeds=3)
    assert (preset.models, preset.seeds) == (("vae",), 3)
    assert chosen(find_preset("quick")) == PRESETS["quick"]


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ({"models": ("gan",)}, "gan"),
        ({"models": ("vae", "vae")}, "vae, vae"),
        ({"models": ()}, "none"),
        ({"seeds": 0}, "0"),
    ],
)
def test_what_cannot_be_run_is_refused(what, found):
    with pytest.raises(OptionError, match=found):
        chosen(find_preset("quick"), **what)


def test_an_unknown_preset():
    with pytest.raises(OptionError, match="quick, paper, full"):
        find_preset("huge")
