"""The spatial broadcast decoder: z tiled with coordinates, at the cost of the paper's decoder."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ngvae_tools.training.broadcast import WIDTH, BroadcastDecoder
from ngvae_tools.training.coordinates import coordinate_grid
from ngvae_tools.training.networks import Decoder


def test_it_tiles_z_and_appends_the_coordinates():
    decoder = BroadcastDecoder((32, 48, 3), 5)
    whole = nn.Conv2d(7, WIDTH, 1)
    with torch.no_grad():
        columns = decoder.latents.weight[:, :, None, None]
        whole.weight.copy_(torch.cat((columns, decoder.position.weight), dim=1))
        whole.bias.copy_(decoder.latents.bias)
    z = torch.randn(3, 5)
    tiled = z[:, :, None, None].expand(-1, -1, 8, 12)
    images = decoder.layers(whole(torch.cat((tiled, coordinate_grid(8, 12).expand(3, -1, -1, -1)), dim=1)))
    assert images.shape == (3, 3, 32, 48)
    torch.testing.assert_close(decoder(z), images, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [16, 32, 64, 128])
def test_its_multiplications_are_near_those_of_the_paper_decoder(side):
    counts = []
    for kind in (BroadcastDecoder, Decoder):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            kind((side, side, 3), 15)(torch.zeros(1, 15))
        counts.append(counter.get_total_flops())
    assert 0.8 < counts[0] / counts[1] < 1.25
