"""Image files that are named one by one."""

import numpy as np
import pytest
from dataset_contract import DatasetContract
from PIL import Image

from ngvae_tools.datasets.files import FileImages

IMAGES = np.random.default_rng(0).integers(0, 255, (6, 8, 10, 3), dtype=np.uint8)


@pytest.fixture
def paths(tmp_path):
    """Six images in an order of their own, and one file that is none."""
    paths = []
    for k in (3, 1, 5, 0, 2, 4):
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(IMAGES[k]).save(paths[-1])
    (tmp_path / "text.png").write_text("not an image")
    return [*paths[:2], tmp_path / "text.png", *paths[2:]]


class TestFilesContract(DatasetContract):
    @pytest.fixture
    def dataset(self, paths):
        return FileImages(paths)

    @pytest.fixture
    def good(self):
        return [0, 1, 3, 4, 5, 6], IMAGES[[3, 1, 5, 0, 2, 4]]

    @pytest.fixture
    def reopened(self, paths):
        return lambda: FileImages(paths)


def test_a_file_that_is_not_there_is_rejected(tmp_path):
    samples, (rejection,) = FileImages([tmp_path / "nothing.png"], image_shape=(8, 10, 3), dtype=np.uint8).read(0, 1)
    assert len(samples) == 0
    assert rejection.identifier == str(tmp_path / "nothing.png")
    assert rejection.reason
