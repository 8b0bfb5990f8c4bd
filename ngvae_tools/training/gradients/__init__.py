"""Samples of the latents through which gradients flow: replaceable estimators of one expectation.

Each returns a `LatentSample`. Where an estimator needs a score term (Eq. 15), the sample carries the
log-density of its noise, and the model adds its product with the distortion to what is differentiated.
"""

from ngvae_tools.training.gradients.base import LatentSample
from ngvae_tools.training.gradients.mixture import MIXTURE_ESTIMATORS, IndexScore, MixtureEstimator, StudentTMixture
from ngvae_tools.training.gradients.normal_gamma import ESTIMATORS, NormalGammaEstimator, g_rep, pathwise
from ngvae_tools.training.gradients.student_t import StudentT

__all__ = [
    "ESTIMATORS",
    "MIXTURE_ESTIMATORS",
    "IndexScore",
    "LatentSample",
    "MixtureEstimator",
    "NormalGammaEstimator",
    "StudentT",
    "StudentTMixture",
    "g_rep",
    "pathwise",
]
