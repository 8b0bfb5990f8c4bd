"""What an objective is: how heads become a posterior, what it costs, and how z is drawn from it.

The loss of every model is distortion + beta * rate + penalty; an objective supplies the rate, per image and
dimension, in nats, and may add a penalty. `raw` is the encoder's second output before its link: the logit of
p, or the log-variance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from ngvae_tools.contract import Family, P
from ngvae_tools.training.gradients import LatentSample


class Objective(nn.Module, ABC):
    """A posterior family and its price.

    Attributes:
        family: The posterior family of the exported encoder.
        second_head: Name of the exported second head.
    """

    family: ClassVar[Family]
    second_head: ClassVar[str]

    EARLIEST: ClassVar[int] = 0
    """Training steps before which a plateau of the loss says nothing."""

    @property
    def changing(self) -> bool:
        """Whether the objective is on its way from one form to another, so that a plateau of the loss says nothing."""
        return False

    @property
    def adapted(self) -> float | None:
        """Share of that way that is done, 0 where it has not begun; None where there is none."""
        return None

    def mean(self, mu: Tensor, raw: Tensor) -> Tensor:  # noqa: ARG002
        """The posterior mean as it is exported, (B, K), from the encoder's two raw outputs."""
        return mu

    def link(self, raw: Tensor) -> Tensor:
        """The second head as it is exported: p (near 0 = informative), or the log-variance."""
        return torch.sigmoid(raw) if self.second_head == P else raw

    @abstractmethod
    def sample(self, mu: Tensor, raw: Tensor, generator: Generator | None = None) -> LatentSample:
        """One draw of z for each image, from heads of shape (B, K); here and below `mu` is what `mean` returned."""

    @abstractmethod
    def rate(self, mu: Tensor, raw: Tensor) -> Tensor:
        """KL of each dimension to its prior, or a bound on it, in nats, shape (B, K)."""

    @abstractmethod
    def posterior_variance(self, raw: Tensor) -> Tensor:
        """Variance of z given the image, shape (B, K)."""

    def decoder_scale(self) -> Tensor | None:
        """What z is multiplied by on its way into the decoder, shape (K,); None where the decoder reads z itself."""
        return None

    def hyperparameters(self) -> dict[str, float | tuple[float, ...]]:
        """Numbers that a reader of the exported encoder needs."""
        return {}

    def penalty(self, mu: Tensor, raw: Tensor, z: Tensor) -> Tensor | None:  # noqa: ARG002
        """What a batch costs beside its rate, in nats an image, shape (); None where there is nothing."""
        return None

    def auxiliary_parameters(self) -> list[nn.Parameter]:
        """Parameters that a second optimiser trains on `auxiliary_loss`, and the main one leaves alone."""
        return []

    def auxiliary_loss(self, z: Tensor, generator: Generator | None = None) -> Tensor:
        """Loss of the auxiliary parameters on detached latents of a batch, shape ()."""
        raise NotImplementedError

    def observe(self, mu: Tensor, raw: Tensor, z: Tensor) -> Tensor | None:  # noqa: ARG002
        """Batch mean that the objective wants to follow, any shape; None where it follows nothing.

        Called once a step without gradients. Data-parallel ranks average it before `absorb`, so that all keep
        the same state.
        """
        return None

    def absorb(self, observed: Tensor) -> None:
        """Take in what `observe` returned, averaged over ranks."""

    def settle(self, second: Tensor, *, plateau: bool, steps: int, watching: bool = True) -> bool:  # noqa: ARG002
        """Take note of an epoch; True where the objective changes from here on, so that a plateau is sought anew.

        Called at the end of every training epoch.

        Args:
            second: Mean of the exported second head over the epoch's images (and ranks), shape (K,).
            plateau: The loss has reached its first plateau, or 60 % of a fixed number of epochs are done.
            steps: Training steps of an epoch, the same in all.
            watching: Whether other signs than `plateau` count; not with a fixed number of epochs, where it is known
                how long to wait.
        """
        return False
