"""Figures on held-out images."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from ngvae_tools.run import Figures
from ngvae_tools.training.accumulator import Accumulator
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import TrainingImages
from ngvae_tools.training.distributed import Ranks
from ngvae_tools.training.model import VariationalAutoencoder

HELD_OUT_BATCH = 256


def evaluate(
    model: VariationalAutoencoder, images: TrainingImages, config: TrainingConfig, ranks: Ranks | None = None
) -> Figures | None:
    """Figures on the held-out images, with the same samples of z each time; None where none are held out.

    Each process takes its share of the batches, and has the figures of all.
    """
    if images.n_held_out == 0:
        return None
    ranks = ranks or Ranks()
    model.eval()
    device = model.sigma.device
    generator = torch.Generator(device)
    total = Accumulator(model)
    with torch.no_grad():
        for number, batch in enumerate(images.held_out(HELD_OUT_BATCH)):
            if number % ranks.world == ranks.rank:
                # A seed a batch, so that the figures do not depend on how many processes share them.
                generator.manual_seed((config.seed + number) % 2**63)
                total.add(model(on_device(batch, device), generator))
    return total.over(ranks).figures()


def on_device(batch: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Raw samples as a tensor on the device."""
    samples = torch.from_numpy(batch)
    return samples if device.type == "cpu" else samples.pin_memory().to(device, non_blocking=True)
