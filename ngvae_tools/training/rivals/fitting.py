"""What the rivals share: a plain training by Adam, and a sample of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from ngvae_tools.errors import TrainingDivergedError
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import TrainingImages

MOST_IMAGES = 5000
"""Training images at most that a count is taken over."""


def fit(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    images: TrainingImages,
    config: TrainingConfig,
    *,
    epochs: int,
    device: torch.device,
) -> None:
    """Minimise a loss of batches of raw samples (B, H, W, C) with Adam.

    Raises:
        TrainingDivergedError: The loss is no longer finite.
    """
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
    for epoch in range(1, epochs + 1):
        value = torch.zeros(())
        for batch in images.epoch(epoch, config.batch_size):
            value = loss(torch.from_numpy(batch).to(device))
            optimiser.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        if not bool(torch.isfinite(value.detach())):
            raise TrainingDivergedError(
                f"training diverged in epoch {epoch}",
                expected="a finite loss",
                found=f"{float(value.detach())}",
                remedy="train with a smaller learning rate",
            )


def some_images(images: TrainingImages, seed: int, most: int = MOST_IMAGES) -> Tensor:
    """Raw samples (n, H, W, C) of training images, drawn by the seed where there are more than `most`."""
    rows = images.train_rows
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return torch.from_numpy(images.source.take(rows))
