"""Peak memory of whole processes: flat in the number of images, but for the index of a folder's files."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from inference.graphs import Linear, images_of
from PIL import Image

MEMORY = """
import resource, sys
from ngvae_tools import select_latents
select_latents(sys.argv[1], sys.argv[2], sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

SHAPE = (16, 16, 3)

INDEX = 120
"""Bytes a file that the index of a folder may take."""


def peak(encoder, data, output):
    """Peak resident memory of a run, bytes."""
    arguments = [sys.executable, "-c", MEMORY, encoder, data, output]
    return 1024 * int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def show(what, peaks, compared):
    """The figures, for `pytest -s`."""
    text = f"{what}: {peaks[0] / 1e6:.0f} MB for 100,000, {peaks[1] / 1e6:.0f} MB for 1,000,000, {compared}"
    print(text)  # noqa: T201


def write_rows(path, count, shape):
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (count, *shape), np.uint8, chunks=(1024, *shape), compression="gzip")
        images[:1024] = images_of(1024, shape)
    return path


def test_memory_does_not_grow_with_the_data(tmp_path):
    encoder = Linear(4, (32, 32, 3)).save(tmp_path / "encoder.onnx")
    peaks = []
    for count in (10_000, 40_000):
        data = write_rows(tmp_path / f"{count}.h5", count, (32, 32, 3))
        peaks.append(peak(encoder, data, tmp_path / f"out-{count}"))
    # 30,000 more images are 92 MB of samples and 0.5 MB of latents.
    assert peaks[1] - peaks[0] < 12_000_000


@pytest.mark.slow
def test_a_million_rows(tmp_path):
    encoder = Linear(8, SHAPE).save(tmp_path / "encoder.onnx")
    peaks = []
    for count in (100_000, 1_000_000):
        data = write_rows(tmp_path / f"{count}.h5", count, SHAPE)
        peaks.append(peak(encoder, data, tmp_path / f"out-{count}"))
    show("rows", peaks, f"{peaks[1] / peaks[0]:.3f} of it")
    assert peaks[1] <= 1.1 * peaks[0]


@pytest.mark.slow
def test_a_million_files(tmp_path):
    encoder = Linear(8, SHAPE).save(tmp_path / "encoder.onnx")
    Image.fromarray(images_of(1, SHAPE)[0]).save(tmp_path / "image.png")
    peaks = []
    folder = tmp_path / "d"
    done = 0
    for count in (100_000, 1_000_000):
        while done < count:
            # A file can have 65,000 names on ext4.
            source = tmp_path / "image.png"
            some = folder / f"{done // 50_000:03d}"
            some.mkdir(parents=True)
            first = some / "image-0000000.png"
            first.write_bytes(source.read_bytes())
            for k in range(done + 1, done + 50_000):
                os.link(first, some / f"image-{k:07d}.png")
            done += 50_000
        peaks.append(peak(encoder, folder, tmp_path / f"out-{count}"))
    more = (peaks[1] - 1.1 * peaks[0]) / 1_000_000
    show("files", peaks, f"{more:.0f} bytes a file more than 1.1 of it")
    assert peaks[1] <= 1.1 * peaks[0] + INDEX * 1_000_000
