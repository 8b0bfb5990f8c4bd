"""The objectives, one module each, and the one that a configuration names."""

from __future__ import annotations

from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.gradients import ESTIMATORS, MIXTURE_ESTIMATORS
from ngvae_tools.training.objectives.adaptive import AdaptiveObjective
from ngvae_tools.training.objectives.ard import ARDObjective
from ngvae_tools.training.objectives.base import Objective
from ngvae_tools.training.objectives.factor import FactorObjective
from ngvae_tools.training.objectives.gaussian import GaussianObjective
from ngvae_tools.training.objectives.mixture import MixtureObjective
from ngvae_tools.training.objectives.paper import PaperObjective, gamma_kl
from ngvae_tools.training.objectives.tcvae import TCVAEObjective

__all__ = [
    "ARDObjective",
    "AdaptiveObjective",
    "FactorObjective",
    "GaussianObjective",
    "MixtureObjective",
    "Objective",
    "PaperObjective",
    "TCVAEObjective",
    "gamma_kl",
    "make_objective",
]


def make_objective(config: TrainingConfig) -> Objective:
    """The objective that a configuration names."""
    objective: Objective
    match config.resolved_objective:
        case "paper":
            objective = PaperObjective(config.slope, ESTIMATORS[config.gradient])
        case "adaptive":
            objective = AdaptiveObjective(config.latent_dim, config.prior_nats, MIXTURE_ESTIMATORS[config.gradient])
        case "mixture":
            objective = MixtureObjective(config.latent_dim, config.prior_nats, MIXTURE_ESTIMATORS[config.gradient])
        case "beta-tcvae":
            objective = TCVAEObjective(config.resolved_beta)
        case "factor-vae":
            objective = FactorObjective(config.latent_dim, config.gamma)
        case "ard-vae":
            objective = ARDObjective(config.latent_dim)
        case _:
            objective = GaussianObjective()
    return objective
