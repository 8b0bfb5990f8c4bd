"""Resizing of single images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ngvae_tools.datasets.resize import resize_image

SIDES = st.integers(1, 20)
DTYPES = st.sampled_from(["uint8", "uint16", "float32"])
WAYS = st.sampled_from(["stretch", "crop", "pad"])


@given(st.tuples(SIDES, SIDES, st.integers(1, 5)), st.tuples(SIDES, SIDES), DTYPES, WAYS)
def test_any_size_and_dtype_is_brought_to_size(shape, size, dtype, how):
    image = np.full(shape, 7, dtype)
    resized = resize_image(image, size, how)
    assert resized.shape == (*size, shape[2])
    assert resized.dtype == image.dtype
    allowed = {0, 7} if how == "pad" else {7}
    assert set(np.unique(resized.round(3)).tolist()) <= allowed


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_bytes_agree_with_pillow(channels):
    image = np.random.default_rng(0).integers(0, 255, (20, 31, channels)).astype(np.uint8)
    resized = resize_image(image, (8, 8), "stretch")
    for k in range(channels):
        expected = Image.fromarray(np.ascontiguousarray(image[..., k])).resize((8, 8), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(resized[..., k], np.asarray(expected))


def test_crop_agrees_with_pillow():
    image = np.random.default_rng(0).integers(0, 255, (20, 40, 3)).astype(np.uint8)
    expected = ImageOps.fit(Image.fromarray(image), (8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize_image(image, (8, 8), "crop"), np.asarray(expected))


def test_pad_centres_the_whole_image():
    resized = resize_image(np.full((4, 8, 1), 9, np.uint16), (8, 8), "pad")
    assert (resized[2:6] == 9).all()
    assert not resized[:2].any()
    assert not resized[6:].any()


def test_sharp_edges_do_not_wrap_around():
    edge = np.zeros((9, 9, 1), np.uint16)
    edge[:, 4:] = 65535
    resized = resize_image(edge, (9, 20), "stretch")
    assert (np.diff(resized[0, :, 0].astype(int))[:8] >= 0).all()
    assert resized[0, 0, 0] == 0
    assert resized[0, -1, 0] == 65535
    unit = resize_image((edge / 65535).astype(np.float32), (9, 20), "stretch")
    assert unit.min() == 0
    assert unit.max() == 1
