"""Make everything in this folder: `make sample-data` (about four minutes on two cores).

The model is trained on 10,000 other sprites; the 256 sprites kept here, as PNG files and as HDF5, are new to it.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import h5py
from PIL import Image

from ngvae_tools import train
from ngvae_tools.datasets import write_sprites

HERE = Path(__file__).parent
SIZE = 32


def main() -> None:
    """Write the sprites, train on others, and keep the exported encoder and decoder."""
    write_sprites(HERE / "sprites.h5", images=256, size=SIZE, seed=1, overwrite=True)
    folder = HERE / "sprites"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with h5py.File(HERE / "sprites.h5") as file:
        for index, image in enumerate(file["images"][:]):
            Image.fromarray(image).save(folder / f"{index:03d}.png", optimize=True)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "sprites.h5"
        write_sprites(data, images=10_000, size=SIZE, seed=0)
        run = train(data, Path(scratch) / "run", seed=0)
        for path in (run.encoder, run.decoder):
            shutil.copy(path, HERE / path.name)
    last = run.epochs[-1]
    print(f"{len(run.epochs)} epochs, {last.informative} informative; p {[round(p, 3) for p in sorted(last.p or ())]}")


if __name__ == "__main__":
    main()
