"""Every option that cannot be trained with is refused by its name."""

import math
import subprocess
import sys

import pytest

from ngvae_tools.errors import OptionError
from ngvae_tools.training.config import PAPER_SIGMA, TrainingConfig


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "gan"}, "--model"),
        ({"gradient": "score"}, "--gradient"),
        ({"device": "tpu"}, "--device"),
        ({"objective": "vae"}, "--objective"),
        ({"objective": "paper", "model": "vae"}, "--objective"),
        ({"objective": "mixture", "model": "beta-vae"}, "--objective"),
        ({"objective": "adaptive", "model": "ard-vae"}, "--objective"),
        ({"decoder": "deep"}, "--decoder"),
        ({"gamma": 0.0, "model": "factor-vae"}, "--gamma"),
        ({"gamma": math.nan, "model": "factor-vae"}, "--gamma"),
        ({"resize": "zoom"}, "--resize"),
        ({"resize": "crop", "size": 0}, "--size"),
        ({"resize": "crop", "size": 8}, "--size"),
        ({"resize": "crop", "size": 40}, "--size"),
        ({"resize": "crop", "size": -16}, "--size"),
        ({"sigma": 0.0}, "--sigma"),
        ({"sigma": -0.1}, "--sigma"),
        ({"sigma": math.nan}, "--sigma"),
        ({"beta": 0.0}, "--beta"),
        ({"beta": math.inf}, "--beta"),
        ({"slope": 0.0, "objective": "paper"}, "--slope"),
        ({"prior_nats": 0.0}, "--prior-nats"),
        ({"prior_nats": 0.69}, "--prior-nats"),
        ({"prior_nats": 800.0}, "--prior-nats"),
        ({"prior_nats": 50.1}, "--prior-nats"),
        ({"prior_nats": 1e-17, "objective": "mixture"}, "--prior-nats"),
        ({"prior_nats": 9e-7, "objective": "mixture"}, "--prior-nats"),
        ({"prior_nats": math.nan, "objective": "mixture"}, "--prior-nats"),
        ({"prior_nats": math.inf, "objective": "mixture"}, "--prior-nats"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"learning_rate": math.nan}, "--learning-rate"),
        ({"latent_dim": 0}, "--latent-dim"),
        ({"batch_size": 0}, "--batch-size"),
        ({"epochs": 0}, "--epochs"),
        ({"max_epochs": 0}, "--max-epochs"),
        ({"held_out": 1.0}, "--held-out"),
        ({"held_out": -0.1}, "--held-out"),
        ({"held_out": math.nan}, "--held-out"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**63}, "--seed"),
    ],
)
def test_an_option_outside_its_range_is_refused(options, named):
    with pytest.raises(OptionError, match=f"^{named} cannot be used") as refusal:
        TrainingConfig(**options)
    assert refusal.value.found in {str(value) for value in options.values()} | {
        repr(value) for value in options.values()
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient": "g-rep"},
        {"objective": "paper", "gradient": "g-rep", "control_variate": False},
        {"resize": "pad", "size": 16},
        {"held_out": 0.0},
        {"prior_nats": 50.0},
        {"prior_nats": 50.0, "objective": "mixture"},
        {"prior_nats": 1e-6, "objective": "mixture"},
        {"seed": 2**63 - 1},
    ],
)
def test_options_at_the_edge_are_taken(options):
    assert TrainingConfig(**options)


@pytest.mark.parametrize(
    ("options", "objective", "beta"),
    [
        ({}, "adaptive", 1.0),
        ({"objective": "paper"}, "paper", 1.0),
        ({"model": "vae"}, "gaussian", 1.0),
        ({"model": "beta-vae"}, "gaussian", 4.0),
        ({"model": "beta-vae", "beta": 150.0}, "gaussian", 150.0),
        ({"model": "beta-tcvae"}, "beta-tcvae", 6.0),
        ({"model": "factor-vae"}, "factor-vae", 1.0),
        ({"model": "ard-vae", "beta": 2.0}, "ard-vae", 2.0),
    ],
)
def test_what_an_absent_option_means(options, objective, beta):
    config = TrainingConfig(**options)
    assert (config.resolved_objective, config.resolved_beta) == (objective, beta)


def test_beta_weighs_the_total_correlation_alone_in_a_beta_tcvae():
    assert TrainingConfig(model="beta-tcvae", beta=9.0).rate_weight == 1.0
    assert TrainingConfig(model="ard-vae", beta=9.0).rate_weight == 9.0


def test_the_default_noise_level_is_the_paper_beta_of_150():
    assert pytest.approx(PAPER_SIGMA * math.sqrt(150), abs=5e-4) == TrainingConfig().sigma


def test_the_options_load_without_torch():
    code = "import sys, ngvae_tools.training.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"slope": 20.0}, "--slope"),
        ({"gradient": "g-rep", "model": "vae"}, "--gradient"),
        ({"gradient": "g-rep", "control_variate": False, "model": "beta-vae"}, "--gradient"),
        ({"control_variate": False}, "--no-control-variate"),
        ({"control_variate": False, "model": "vae"}, "--no-control-variate"),
        ({"prior_nats": 2.0, "objective": "paper"}, "--prior-nats"),
        ({"prior_nats": 2.0, "model": "vae"}, "--prior-nats"),
        ({"max_epochs": 9, "epochs": 3}, "--max-epochs"),
        ({"size": 32}, "--size"),
        ({"beta": 9.0, "model": "vae"}, "--beta"),
        ({"beta": 9.0, "model": "factor-vae"}, "--beta"),
        ({"gamma": 9.0, "model": "beta-tcvae"}, "--gamma"),
        ({"gamma": 9.0}, "--gamma"),
        ({"gradient": "g-rep", "model": "ard-vae"}, "--gradient"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options, name):
    with pytest.raises(OptionError, match=f"^{name} would do nothing"):
        TrainingConfig(**options)
