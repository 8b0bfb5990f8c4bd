"""Small sprites to train on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import render, sample_factors
from ngvae_tools.training.data import TrainingImages
from ngvae_tools.training.sources import ImagesInMemory


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small run faster on one thread, above all where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def sprites():
    return render(sample_factors(1000, seed=0), size=32)


@pytest.fixture(scope="session")
def few(sprites):
    return images_of(sprites[:80], held_out=16)


def images_of(samples, held_out, scale=None):
    split = len(samples) - held_out
    index = np.arange(len(samples))
    return TrainingImages(ImagesInMemory(samples), index[:split], index[split:], scale=scale or InputScale())


@pytest.fixture(scope="session")
def make_images():
    return images_of


@pytest.fixture
def run_folder(tmp_path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder
