"""The objectives, one module each, and the one that a configuration names."""

from __future__ import annotations

from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.gradients import ESTIMATORS
from ngvae_tools.training.objectives.base import Objective
from ngvae_tools.training.objectives.gaussian import GaussianObjective
from ngvae_tools.training.objectives.mixture import MixtureObjective
from ngvae_tools.training.objectives.paper import PaperObjective, gamma_kl

__all__ = ["GaussianObjective", "MixtureObjective", "Objective", "PaperObjective", "gamma_kl", "make_objective"]


def make_objective(config: TrainingConfig) -> Objective:
    """The objective that a configuration names."""
    match config.resolved_objective:
        case "paper":
            return PaperObjective(config.slope, ESTIMATORS[config.gradient])
        case "mixture":
            return MixtureObjective(config.latent_dim, config.prior_nats)
        case _:
            return GaussianObjective()
