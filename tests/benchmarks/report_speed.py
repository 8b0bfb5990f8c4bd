"""Seconds that a page of 100,000 images takes, from the files to the page, as a user's command.

`python tests/benchmarks/report_speed.py [FOLDER] [--kind h5|png] [--images N] [--model RUN]` makes sprites of 64x64 in
FOLDER once (a temporary one by default), analyses them with the encoder and decoder of RUN (sample_data by default,
whose images are 32x32, so that images are resized while they are read), and times `ngvae-tools report OUT --html`,
several times, each in a process of its own. It prints the seconds of the command, its CPU seconds, its largest memory,
and the size of the page; then where the time goes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "sample_data"
REPEATS = 3


def ngvae_tools(*words: object) -> None:
    """Run a command; its words go where they go, its output nowhere."""
    subprocess.run([sys.executable, "-m", "ngvae_tools", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def png_folder(source: Path, folder: Path) -> None:
    """The images of an HDF5 file as PNGs, 5,000 in a folder."""
    import h5py
    from PIL import Image

    with h5py.File(source) as file:
        images = file["images"]
        for start in range(0, len(images), 5000):
            below = folder / f"{start:07d}"
            below.mkdir(parents=True)
            for number, image in enumerate(images[start : start + 5000], start):
                Image.fromarray(image).save(below / f"{number:07d}.png", compress_level=1)


def prepared(folder: Path, kind: str, images: int, model: Path, size: int) -> Path:
    """The output folder of select-latents, made unless it is there."""
    source = folder / f"sprites-{images}-{size}.h5"
    if not source.exists():
        ngvae_tools("sprites", source, "--images", images, "--size", size, "-q")
    data = source if kind == "h5" else source.with_suffix("")
    if not data.exists():
        png_folder(source, data)
    out = folder / f"out-{kind}-{images}-{size}-{model.resolve().name}"
    if not (out / "selection.json").exists():
        words = ("--decoder", model / "decoder.onnx", "--resize", "stretch", "--bootstrap", 0, "-q")
        labels = ("--labels", "auto") if kind == "h5" else ()
        ngvae_tools("select-latents", model / "encoder.onnx", data, "-o", out, *words, *labels)
    return out


def where_time_goes(out: Path) -> None:
    """The functions that gathering spends most in."""
    import cProfile
    import pstats

    from ngvae_tools.reporting.sources import open_sources
    from ngvae_tools.workflows.pictures import gather_pictures

    (named,) = open_sources([out]).analyses
    with cProfile.Profile() as profile:
        found = gather_pictures(named)
    print(f"{len(found.traversals)} traversals, {len(found.extremes)} dimensions, notes: {found.notes}")
    pstats.Stats(profile).sort_stats("cumulative").print_stats("ngvae_tools", 20)


def main() -> None:
    """Print every figure, with the machine's load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--kind", choices=["h5", "png"], default="h5")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--model", type=Path, default=SAMPLE)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        out = prepared(folder, given.kind, given.images, given.model, given.size)
        page = folder / "report.html"
        print(f"{given.images:,} images as {given.kind}, {len(os.sched_getaffinity(0))} cores")
        for _ in range(REPEATS):
            load, before, start = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            ngvae_tools("report", out, "--html", page, "--overwrite", "-q")
            seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"{seconds:.1f} s, {cpu:.1f} s of CPU, {after.ru_maxrss / 1024:.0f} MiB, page "
                f"{page.stat().st_size / 1e6:.2f} MB (load {load:.1f})",
                flush=True,
            )
        where_time_goes(out)


if __name__ == "__main__":
    main()
