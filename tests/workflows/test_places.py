"""Analyses of data that lie in tar files or behind a URL."""

import tarfile
from pathlib import Path

import pytest

from ngvae_tools import open_latents, select_latents
from ngvae_tools.workflows.select import default_output
from ngvae_tools.workflows.sweep import default_sweep
from ngvae_tools.workflows.train import default_run

SAMPLE = Path(__file__).parents[2] / "sample_data"


@pytest.mark.slow
def test_a_url_and_a_tar_give_what_the_folder_gives(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    names = sorted((SAMPLE / "sprites").glob("*.png"))[:40]
    fs = fsspec.filesystem("memory")
    (tmp_path / "sprites").mkdir()
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in names:
            (tmp_path / "sprites" / name.name).write_bytes(name.read_bytes())
            fs.pipe_file(f"memory://test-places/{name.name}", name.read_bytes())
            tar.add(name, name.name)
    places = {"here": tmp_path / "sprites", "there": "memory://test-places", "tar": tmp_path / "0.tar"}
    records = {
        key: select_latents(SAMPLE / "encoder.onnx", place, tmp_path / key, bootstrap=0)
        for key, place in places.items()
    }
    fs.rm("memory://test-places", recursive=True)
    here, there, tar = records.values()
    assert (there.data.path, there.data.kind, tar.data.kind) == ("memory://test-places", "folder", "tar")
    assert there.data.fingerprint == here.data.fingerprint
    # Where the images were is written into the file.
    for other in ("there", "tar"):
        with open_latents(tmp_path / "here") as one, open_latents(tmp_path / other) as two:
            assert one.header.codes_sha256 == two.header.codes_sha256
            before = b"0.tar/" if other == "tar" else b""
            assert [before + name for name in one.identifiers.tolist()] == two.identifiers.tolist()
    assert tar.dimensions == there.dimensions == here.dimensions


def test_results_are_named_after_the_last_part_of_a_url():
    assert default_output(Path("encoder.onnx"), "s3://bucket/faces.tar") == Path("encoder-faces")
    assert default_run("s3://bucket/faces/") == Path("run-faces")
    assert default_sweep("https://host/a.npy?x=1") == Path("sweep-a")
