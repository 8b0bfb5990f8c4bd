"""FactorVAE: the plain VAE with a total correlation that a discriminator estimates."""

from __future__ import annotations

import itertools

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from ngvae_tools.training.objectives.gaussian import GaussianObjective

HIDDEN = (1000,) * 6
SLOPE = 0.2
JOINT, PERMUTED = 0, 1


class FactorObjective(GaussianObjective):
    """The Gaussian rate, and gamma times the total correlation by the density-ratio trick.

    Kim and Mnih 2018, "Disentangling by factorising", Eq. 2 and 3: TC(z) = E_q(z) log D(z) / (1 - D(z)), where D
    tells draws of q(z) from draws of prod_k q(z_k). D has six hidden layers of 1,000 units, leaky ReLU of slope 0.2
    and two logits (their Appendix A); it is trained with Adam at 1e-4 and betas (0.5, 0.9). It is no part of what is
    exported.

    Args:
        latent_dim: Number K of latent dimensions.
        gamma: Weight of the total correlation.
    """

    def __init__(self, latent_dim: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise((latent_dim, *HIDDEN)):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        self.discriminator = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 2))

    def penalty(self, mu: Tensor, raw: Tensor, z: Tensor) -> Tensor:  # noqa: ARG002
        """Gamma TC, nats; gradients flow to z, not to the discriminator."""
        held = {name: weights.detach() for name, weights in self.discriminator.named_parameters()}
        logits: Tensor = torch.func.functional_call(self.discriminator, held, (z,))
        return self.gamma * (logits[:, JOINT] - logits[:, PERMUTED]).mean()

    def auxiliary_parameters(self) -> list[nn.Parameter]:
        """Those of the discriminator."""
        return list(self.discriminator.parameters())

    def auxiliary_loss(self, z: Tensor, generator: Generator | None = None) -> Tensor:
        """Cross-entropy of the discriminator (Algorithm 2).

        Half of the batch is given as it is; in the other half each dimension is permuted over the images
        (Algorithm 1). In a batch of an odd size, one image is in both.
        """
        size = (len(z) + 1) // 2
        joint, permuted = z[:size], permute_dimensions(z[-size:], generator)
        logits: Tensor = self.discriminator(torch.cat((joint, permuted)))
        labels = torch.arange(2, device=z.device).repeat_interleave(size)
        return cross_entropy(logits, labels)


def permute_dimensions(z: Tensor, generator: Generator | None = None) -> Tensor:
    """Each dimension of z (B, K) in an order of its own over the batch (Kim and Mnih 2018, Algorithm 1)."""
    order = torch.rand(z.shape, generator=generator, device=z.device).argsort(dim=0)
    return z.gather(0, order)
