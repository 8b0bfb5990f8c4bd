"""Images whose number of dimensions is known."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def linear_images(make_images):
    """A function: images 16x16x1, a grey ground plus so many orthogonal waves with uniform weights."""

    def make(dims, count=1600, seed=0):
        draw = np.random.default_rng(seed)
        place = (np.arange(16) + 0.5) / 16
        waves = [
            np.cos(np.pi * a * place)[:, None] * np.cos(np.pi * b * place)[None]
            for a, b in ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2))[:dims]
        ]
        weights = draw.uniform(-1, 1, size=(count, dims))
        images = 0.5 + 0.45 / dims * np.tensordot(weights, np.stack(waves), axes=1)
        samples = np.round(255 * images).astype(np.uint8)[..., None]
        return make_images(samples, held_out=count // 10)

    return make
