"""beta-TCVAE: the plain VAE with a heavier total correlation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ngvae_tools.training.objectives.gaussian import GaussianObjective


class TCVAEObjective(GaussianObjective):
    """The Gaussian rate, and (beta - 1) times the total correlation of the aggregate posterior.

    Chen, Li, Grosse and Duvenaud 2018, "Isolating sources of disentanglement in variational autoencoders". The mean
    rate is the sum of three parts (Eq. 2): the mutual information of image and z, the total correlation
    TC = KL(q(z) || prod_k q(z_k)), and the KL of each q(z_k) to its prior. Eq. 4 weighs them with alpha, beta and
    gamma; with alpha = gamma = 1, as in the paper's experiments, that is the rate plus (beta - 1) TC.

    Args:
        beta: Weight of the total correlation.
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def penalty(self, mu: Tensor, raw: Tensor, z: Tensor) -> Tensor:
        """(beta - 1) TC, nats."""
        return (self.beta - 1) * total_correlation(mu, raw, z)


def total_correlation(mu: Tensor, logvar: Tensor, z: Tensor) -> Tensor:
    """Total correlation of the aggregate posterior by minibatch-weighted sampling, nats, shape ().

    Chen et al. 2018, Eq. 3 and Appendix C.1: log q(z_i) is estimated as log 1/(N M) sum_j q(z_i | x_j) over the M
    images of the batch, and each log q(z_ik) likewise. The factor 1/N is left out, as in disentanglement_lib
    (Locatello et al. 2019): it shifts the sum by (K - 1) log N whatever the weights. What remains is an unbiased
    estimate of the TC of the batch's own mixture, at most (K - 1) log M. The stratified variant (Appendix C.2)
    weighs an image's own component 1/N instead of 1/M; the default of their published code is the former.

    Args:
        mu: Posterior means, shape (B, K).
        logvar: Posterior log-variances, shape (B, K).
        z: One draw for each image, shape (B, K).
    """
    deviation = z[:, None] - mu
    # log q(z_ik | x_j), shape (B, B, K).
    log_density = -0.5 * (deviation**2 * torch.exp(-logvar) + logvar + math.log(2 * math.pi))
    log_size = math.log(len(z))
    joint = log_density.sum(dim=2).logsumexp(dim=1) - log_size
    marginals = log_density.logsumexp(dim=1) - log_size
    return (joint - marginals.sum(dim=1)).mean()
