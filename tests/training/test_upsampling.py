"""The last layer's faster way is the transposed convolution."""

import pytest
import torch
from torch import nn

from ngvae_tools.training.upsampling import FourPixels, Upsampling


@pytest.fixture
def drawn():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("outputs", [1, 3, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_training_and_evaluating_give_the_same(drawn, outputs, layout):
    layer = Upsampling(32, outputs).to(memory_format=layout)
    images = torch.randn(3, 32, 6, 5, generator=drawn).to(memory_format=layout)
    fast = layer(images)
    assert type(fast.grad_fn).__name__ == "FourPixelsBackward"
    assert fast.shape == (3, outputs, 12, 10)
    torch.testing.assert_close(fast, layer.eval()(images), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_transposed_convolution(drawn):
    layer = Upsampling(8, 3)
    images = torch.randn(2, 8, 4, 4, generator=drawn).requires_grad_()
    cotangent = torch.randn(2, 3, 8, 8, generator=drawn)
    wanted = (images, layer.weight, layer.bias)
    fast = torch.autograd.grad(layer(images), wanted, cotangent)
    plain = torch.autograd.grad(nn.ConvTranspose2d.forward(layer, images), wanted, cotangent)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_gradients_agree_with_finite_differences(drawn):
    shapes = ((2, 3, 3, 2), (3, 2, 3, 3), (2,))
    values = [torch.randn(shape, generator=drawn, dtype=torch.float64).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(FourPixels.apply, values)


def test_frozen_images_or_weights_get_no_gradient(drawn):
    layer = Upsampling(4, 1).requires_grad_(False)
    images = torch.randn(1, 4, 2, 2, generator=drawn).requires_grad_()
    layer(images).sum().backward()
    assert images.grad is not None
    assert layer.weight.grad is None


@pytest.mark.parametrize("change", ["channels", "bias", "precision"])
def test_elsewhere_it_is_left_to_torch(drawn, change):
    layer = Upsampling(4, 5 if change == "channels" else 3, bias=change != "bias")
    images = torch.randn(1, 4, 2, 2, generator=drawn)
    if change == "precision":
        layer, images = layer.bfloat16(), images.bfloat16()
    assert "FourPixels" not in type(layer(images).grad_fn).__name__


def test_weights_start_as_the_transposed_convolution_s():
    torch.manual_seed(0)
    layer = Upsampling(4, 3)
    torch.manual_seed(0)
    plain = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)
    for name, weights in plain.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], weights, rtol=0, atol=0)
