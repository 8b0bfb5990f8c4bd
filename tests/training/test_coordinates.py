"""Coordinate channels: equal to concatenating them, and seen by the networks."""

import pytest
import torch
from torch import nn

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.coordinates import CoordConv, coordinate_grid, plain_convolution
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.networks import Decoder, Encoder

SIZE = (6, 10)


def test_the_grid_runs_over_columns_and_rows():
    columns, rows = coordinate_grid(3, 5)[0]
    assert columns[1].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert rows[:, 2].tolist() == [-1, 0, 1]


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_a_convolution_of_the_concatenated_channels(kind, stride):
    layer = CoordConv(kind, 3, 5, SIZE, stride=stride)
    whole = plain_convolution(kind, 5, 5, stride=stride)
    with torch.no_grad():
        axis = 1 if kind is nn.Conv2d else 0
        whole.weight.copy_(torch.cat((layer.image.weight, layer.position.weight), dim=axis))
        whole.bias.copy_(layer.image.bias)
    images = torch.randn(4, 3, *SIZE)
    coordinates = coordinate_grid(*SIZE).expand(4, -1, -1, -1)
    torch.testing.assert_close(layer(images), whole(torch.cat((images, coordinates), dim=1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_its_weights_start_as_those_of_the_whole_convolution(kind):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        whole = plain_convolution(kind, 5, 4)
        torch.default_generator.manual_seed(7)
        layer = CoordConv(kind, 3, 4, SIZE)
    axis = 1 if kind is nn.Conv2d else 0
    assert torch.equal(torch.cat((layer.image.weight, layer.position.weight), dim=axis), whole.weight)
    assert torch.equal(layer.image.bias, whole.bias)


def test_networks_of_other_shapes_than_squares():
    shape = (32, 48, 3)
    encoder = Encoder(shape, 4, InputScale(), coordconv=True)
    mu, raw = encoder(torch.rand(2, 3, 32, 48))
    assert mu.shape == raw.shape == (2, 4)
    assert Decoder(shape, 4, coordconv=True)(mu).shape == (2, 3, 32, 48)
    assert sum(isinstance(layer, CoordConv) for layer in encoder.modules()) == 4


def test_without_them_the_networks_start_as_before():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        first = nn.Conv2d(3, 32, 3, stride=2, padding=1)
    model = VariationalAutoencoder(TrainingConfig(seed=0), (16, 16, 3), InputScale())
    assert torch.equal(model.encoder.convolutions[0].weight, first.weight)
