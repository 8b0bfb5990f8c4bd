"""The relevant dimensions of an ARD-VAE, by its paper's own rule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ngvae_tools.training.model import VariationalAutoencoder

SHARE = 0.99
IMAGES = 100


@dataclass(frozen=True, slots=True)
class Relevance:
    """Which dimensions are relevant.

    Attributes:
        score: Relevance score of each dimension, shape (K,).
        relevant: The fewest dimensions whose scores make up `share` of the sum, in ascending order.
        share: That share.
    """

    score: tuple[float, ...]
    relevant: tuple[int, ...]
    share: float = SHARE


def relevance(model: VariationalAutoencoder, samples: Tensor, seed: int = 0) -> Relevance:
    """Relevance of each dimension on some images (Saha, Joshi and Whitaker 2025, Eq. 19 and 20).

    The score of dimension k is v_k w_k: the learned prior variance times the mean over images of the squared norm of
    the decoder's derivative by z_k, at a draw of z. The derivative by z_k / sqrt(v_k), which is what the exported
    decoder reads, has both factors in it. The paper takes 100 images and the dimensions that explain 99 %; its
    published code squares the mean of the absolute derivatives instead of taking the mean of their squares.

    Args:
        model: A trained model.
        samples: Raw samples, shape (B, H, W, C), on the model's device.
        seed: Of the draw of z.
    """
    generator = torch.Generator(samples.device).manual_seed(seed)
    training = model.training
    model.eval()  # the decoder's faster way of training has no derivative of this kind
    try:
        with torch.no_grad():
            mu, raw = model.encoder(model.encoder.images(samples))
            z = model.objective.sample(model.objective.mean(mu, raw), raw, generator).z
            score = torch.stack([_sensitivity(model, z, k) for k in range(model.latent_dim)])
    finally:
        model.train(training)
    return Relevance(tuple(score.tolist()), relevant_dimensions(score))


def relevant_dimensions(score: Tensor, share: float = SHARE) -> tuple[int, ...]:
    """The fewest dimensions whose scores, shape (K,), make up that share of the sum; none where all are nought."""
    order = score.argsort(descending=True)
    explained = score[order].cumsum(dim=0)
    count = int((explained < share * explained[-1]).sum()) + 1
    return tuple(sorted(k for k in order[:count].tolist() if score[k] > 0))


def _sensitivity(model: VariationalAutoencoder, z: Tensor, dimension: int) -> Tensor:
    """Mean over images of the squared norm of the derivative of the decoded image by one dimension."""
    direction = torch.zeros_like(z)
    direction[:, dimension] = 1
    # strict: where a layer cannot be derived twice, it would give zeros without a word.
    derivative: Tensor = torch.autograd.functional.jvp(  # type: ignore[no-untyped-call]
        model.decode, z, direction, strict=True
    )[1]
    return derivative.double().flatten(1).square().sum(dim=1).mean()
