import numpy as np
import pytest
from inference.graphs import SHAPE, Linear, images_of

from ngvae_tools.datasets import open_dataset
from ngvae_tools.errors import ContractError
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.inference.stream import encode_range, joined


@pytest.fixture
def linear():
    return Linear()


@pytest.fixture
def session(tmp_path, linear):
    return EncoderSession(linear.save(tmp_path / "encoder.onnx", nan_where_white=True), threads=1)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_ranges_are_whole_and_can_be_joined(tmp_path, as_h5, linear, session, batch_size):
    images = images_of(200)
    dataset = open_dataset(as_h5(tmp_path / "d.h5", images))
    ranges = [
        encode_range(dataset, session, start, min(start + 64, 200), batch_size=batch_size)
        for start in range(0, 200, 64)
    ]
    assert [part.size for part in ranges] == [64, 64, 64, 8]
    whole = joined(ranges)
    np.testing.assert_array_equal(whole.index, np.arange(200))
    mu, p = linear.heads(images)
    np.testing.assert_array_equal(whole.heads.mu, mu)
    np.testing.assert_array_equal(whole.heads.second, p)


def test_images_without_finite_heads_are_rejected_alone(tmp_path, as_h5, linear, session):
    images = images_of(150)
    bad = [0, 63, 64, 100, 149]
    images[bad, -1, -1, -1] = 255
    found = encode_range(open_dataset(as_h5(tmp_path / "d.h5", images)), session, 0, 150, batch_size=32)
    assert [r.index for r in found.rejected] == bad
    assert {r.reason for r in found.rejected} == {"makes the encoder return values that are not finite"}
    good = np.setdiff1d(np.arange(150), bad)
    np.testing.assert_array_equal(found.index, good)
    np.testing.assert_array_equal(found.heads.mu, linear.heads(images[good])[0])


def test_rejections_of_data_and_encoder_come_sorted(tmp_path, as_pngs, session):
    images = images_of(20)
    images[[2, 11], -1, -1, -1] = 255
    folder = as_pngs(tmp_path / "d", images)
    for broken in (1, 9, 12):
        (folder / f"{broken:05d}.png").write_bytes(b"broken")
    found = encode_range(open_dataset(folder, image_shape=SHAPE), session, 0, 20, batch_size=4)
    assert [r.index for r in found.rejected] == [1, 2, 9, 11, 12]
    assert [r.identifier for r in found.rejected] == [f"{k:05d}.png" for k in (1, 2, 9, 11, 12)]


@pytest.mark.parametrize("unit", [-(2.0**-4), 2.0**-4])
def test_p_outside_its_range_is_refused(tmp_path, as_h5, unit):
    linear = Linear()
    linear.second_weight *= unit * 2.0**8
    session = EncoderSession(linear.save(tmp_path / "encoder.onnx"))
    dataset = open_dataset(as_h5(tmp_path / "d.h5", images_of(10)))
    with pytest.raises(ContractError, match="p between 0 and 1"):
        encode_range(dataset, session, 0, 10, batch_size=4)


def test_a_log_variance_whose_exponential_overflows_is_rejected(tmp_path, as_h5):
    linear = Linear(second="logvar")
    linear.second_weight[0, 0] = 4.0
    session = EncoderSession(linear.save(tmp_path / "encoder.onnx"))
    images = images_of(10)
    images[:, 0, 0, 0] = 0
    images[3, 0, 0, 0] = 250
    found = encode_range(open_dataset(as_h5(tmp_path / "d.h5", images)), session, 0, 10, batch_size=4)
    assert [r.index for r in found.rejected] == [3]
