"""Seconds and memory of the analysis of 1,000,000 x 15 latents, after encoding, on two cores.

`python tests/benchmarks/analysis.py` runs each case in a process of its own, since peak memory is of a process.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import numpy as np

from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.analysis.selection import check_rule
from ngvae_tools.analysis.survey import Survey
from ngvae_tools.posteriors import GaussianPosterior, NormalGammaMixturePosterior
from ngvae_tools.workflows.verdict import verdict_of

IMAGES = 1_000_000
DIM = 15
INFORMATIVE = 7
REPLICATES = (0, 200)
SCALES = np.linspace(0.03, 0.3, DIM)
FAMILIES = {
    "mixture": NormalGammaMixturePosterior(3.65, tuple(3.65 * float(s) ** 2 for s in SCALES)),
    "gaussian": GaussianPosterior(),
}


def blocks(family: str):
    """Blocks of heads as an encoder gives them: seven dimensions that carry a cloud, eight collapsed ones."""
    rng = np.random.default_rng(0)
    used = np.arange(DIM) < INFORMATIVE
    for start in range(0, IMAGES, BLOCK):
        rows = min(BLOCK, IMAGES - start)
        mu = rng.standard_normal((rows, DIM), dtype=np.float32) * np.where(used, 1.0, 0.01).astype(np.float32)
        noise = rng.standard_normal((rows, DIM), dtype=np.float32)
        if family == "mixture":
            second = np.where(used, 0.03, 0.65) + np.float32(0.01) * noise
            second = second.clip(0, 1)
        else:
            second = np.where(used, -4.0, -0.02) + np.float32(0.1) * noise
        yield np.arange(start, start + rows), mu, second.astype(np.float32)


def peak() -> float:
    """Largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, replicates: int) -> None:
    """Run one case and print it."""
    family = FAMILIES[name]
    survey = Survey(family, DIM, replicates=replicates)
    before, streamed = peak(), 0.0
    for index, mu, second in blocks(name):
        start = time.perf_counter()
        survey.add(index, mu, second)
        streamed += time.perf_counter() - start
    start = time.perf_counter()
    findings = survey.findings()
    chosen = findings.selection(*check_rule(family, None, None))
    assert chosen is not None
    verdict = verdict_of(findings, chosen)
    end = time.perf_counter() - start
    print(
        f"{name}, {replicates} replicates: streamed {streamed:.2f} s, end {end:.2f} s, sum {streamed + end:.2f} s; "
        f"peak memory {peak():.0f} MiB ({before:.0f} before); {verdict.selection.count} informative",
        flush=True,
    )


def main() -> None:
    """Print every case, with the machine's load before and after."""
    if len(sys.argv) == 3:
        measure(sys.argv[1], int(sys.argv[2]))
        return
    for name in FAMILIES:
        for replicates in REPLICATES:
            load = os.getloadavg()[0]
            subprocess.run([sys.executable, __file__, name, str(replicates)], check=True)
            print(f"  load {load:.2f} before, {os.getloadavg()[0]:.2f} after")


if __name__ == "__main__":
    main()
