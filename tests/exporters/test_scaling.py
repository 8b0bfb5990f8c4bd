import numpy as np
import pytest
import torch

from exporters.scaling import SCALES, Scaling, check_sample_type, samples_of
from ngvae_tools.errors import ExportError, OptionError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_images_are_scaled_and_normalised_as_written_out_and_come_back():
    unit = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    for limits, mean, std in [((0, 1), None, None), ((-1, 1), None, None), ((0, 1), MEAN, STD), ((2, 10), 3.0, 0.5)]:
        scaling = Scaling.of(limits, mean, std, 3)
        shift = torch.tensor(mean if mean is not None else 0.0).reshape(-1, 1, 1)
        spread = torch.tensor(std if std is not None else 1.0).reshape(-1, 1, 1)
        expected = (limits[0] + unit * (limits[1] - limits[0]) - shift) / spread
        images = scaling.apply(unit)
        torch.testing.assert_close(images, expected, atol=2e-6, rtol=1e-6)
        torch.testing.assert_close(scaling.invert(images), unit, atol=2e-6, rtol=0)
        scaling.check(images)


@pytest.mark.parametrize(
    "arguments",
    [
        ((1, 0), None, None),
        ((0, 0), None, None),
        ((0, float("nan")), None, None),
        ((0, 1), (0.5, 0.5), None),
        ((0, 1), None, 0.0),
        ((0, 1), None, (1.0, -1.0, 1.0)),
    ],
)
def test_ranges_that_cannot_be_used_are_refused(arguments):
    with pytest.raises(OptionError, match="range of the network's images"):
        Scaling.of(*arguments, 3)


def test_an_example_outside_the_range_is_refused():
    scaling = Scaling.of((0, 1), None, None, 1)
    scaling.check(torch.tensor([[[[-0.005, 1.005]]]]))
    for value in (-1.0, 1.02, float("nan")):
        with pytest.raises(ExportError, match="values from 0 to 1"):
            scaling.check(torch.tensor([[[[0.5, value]]]]))


@pytest.mark.parametrize("sample_type", SCALES)
def test_samples_are_the_nearest_to_the_images(sample_type):
    unit = torch.tensor([[[[0.0, 0.25, 1.0, 2.0]], [[0.5, 0.001, -1.0, 0.999]]]])
    samples = samples_of(unit, sample_type)
    assert (samples.shape, samples.dtype) == ((1, 1, 4, 2), sample_type)
    scale = SCALES[sample_type]
    back = (samples.astype(np.float64) - scale.low) / (scale.high - scale.low)
    step = 0 if sample_type == "float32" else 0.5 / scale.high
    np.testing.assert_allclose(back, unit.clamp(0, 1).permute(0, 2, 3, 1).numpy(), atol=step + 1e-9)


def test_unknown_sample_types_are_refused():
    with pytest.raises(OptionError, match="int8"):
        check_sample_type("int8")
