"""The baselines and network options from images to a selection."""

import json

import pytest
import torch

from ngvae_tools import select_latents, train
from ngvae_tools.datasets import write_sprites

OPTIONS = [
    {"model": "ard-vae", "coordconv": True, "held_out": 0.0},
    {"model": "factor-vae"},
    *(
        pytest.param(options, marks=pytest.mark.slow)
        for options in ({"model": "beta-tcvae"}, {"model": "ard-vae"}, {"model": "vae", "decoder": "broadcast"})
    ),
]


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    path = tmp_path_factory.mktemp("baselines") / "sprites.h5"
    write_sprites(path, images=60, size=16, seed=0)
    return path


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())))
def test_a_model_trains_exports_and_is_analysed(sprites, tmp_path, options):
    run = train(sprites, tmp_path / "run", epochs=2, latent_dim=3, batch_size=16, **options)
    record = select_latents(run.folder, sprites, tmp_path / "out")
    assert (record.model.family, record.model.latent_dim) == ("gaussian", 3)
    summary = json.loads((run.folder / "summary.json").read_text())
    if options["model"] == "ard-vae":
        found = summary["relevance"]
        assert 1 <= found["count"] == len(found["relevant"]) <= len(found["score"]) == 3
        assert found["share"] == 0.99
    else:
        assert "relevance" not in summary
    if options["model"] == "factor-vae":
        state = torch.load(run.folder / "checkpoint.pt", weights_only=True)
        assert sum("discriminator" in name for name in state["model"]) == 14
