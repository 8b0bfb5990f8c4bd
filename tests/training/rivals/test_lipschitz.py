"""Networks made 1-Lipschitz."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ngvae_tools.training.networks import Decoder
from ngvae_tools.training.rivals.lipschitz import make_lipschitz


def matrix(layer, shape):
    """A linear layer, its bias left out, as the matrix that it is."""
    inputs = torch.eye(int(np.prod(shape))).reshape(-1, *shape)
    with torch.no_grad():
        return (layer(inputs) - layer(torch.zeros(1, *shape))).flatten(1).numpy()


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Linear(5, 9), (5,)),
        (lambda: nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), (4, 5, 6)),
        (lambda: nn.ConvTranspose2d(2, 4, 3, padding=2, dilation=2, groups=2), (2, 4, 4)),
    ],
)
def test_every_layer_has_the_norm_one(make, shape):
    torch.manual_seed(0)  # power iteration is slow where the two greatest singular values are close
    layer = make()
    layer.weight.data *= 5
    before = np.linalg.norm(matrix(copy.deepcopy(layer), shape), 2)
    layer = make_lipschitz(layer, torch.zeros(1, *shape))
    layer.train()
    for _ in range(200):
        assert layer.weight.isfinite().all()
    layer.eval()
    assert before > 1.5
    assert np.linalg.norm(matrix(layer, shape), 2) == pytest.approx(1, abs=1e-3)


def test_the_kernel_alone_is_no_bound():
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)
    naive = nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=100)
    assert np.linalg.norm(matrix(naive, (4, 5, 6)), 2) > 1.2


def test_a_decoder_moves_no_image_further_than_its_codes():
    torch.manual_seed(1)
    decoder = Decoder((16, 16, 3), 4)
    for layer in decoder.layers:
        if hasattr(layer, "weight"):
            layer.weight.data *= 3
    free = copy.deepcopy(decoder)
    make_lipschitz(decoder, torch.zeros(1, 4)).train()
    for _ in range(100):
        decoder(torch.zeros(1, 4))
    decoder.eval()
    one, other = torch.randn(2, 500, 4)

    def stretch(network):
        with torch.no_grad():
            return float(((network(one) - network(other)).flatten(1).norm(dim=1) / (one - other).norm(dim=1)).max())

    assert stretch(decoder) < 1.001
    assert stretch(free) > 2


def test_gradients_go_through_the_norm():
    torch.manual_seed(0)
    layer = make_lipschitz(nn.Linear(3, 4), torch.zeros(1, 3)).double().eval()
    inputs = torch.randn(2, 3, dtype=torch.float64)
    original = layer.parametrizations.weight.original
    layer(inputs).square().sum().backward()
    step = torch.zeros_like(original)
    step[1, 2] = 1e-6
    with torch.no_grad():
        original += step
        above = layer(inputs).square().sum()
        original -= 2 * step
        below = layer(inputs).square().sum()
    assert float((above - below) / 2e-6) == pytest.approx(float(original.grad[1, 2]), rel=1e-5)
