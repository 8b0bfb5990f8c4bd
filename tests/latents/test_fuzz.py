"""Mutated files are read or refused: no other error, no crash, no hang, and never wrong values."""

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import latent_fuzz
import pytest
from hdf5_bytes import blocks_of, lookup3, repair

TESTS = Path(latent_fuzz.__file__).parent
CHILDREN = 2


def read_mutations(folder, first, stop):
    """The verdict of each seed; a child that dies is followed by another, and its seed is at fault."""
    found = {}
    while first < stop:
        command = [sys.executable, latent_fuzz.__file__, str(folder), str(first), str(stop)]
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path}
        )
        lines = [line.partition(" ") for line in done.stdout.splitlines()]
        found |= {int(seed): verdict for seed, _, verdict in lines}
        first += len(lines)
        if first < stop:
            found[first] = f"FAULT ended with {done.returncode}: {done.stderr[-300:]}"
            first += 1
    return found


def fuzz(folder, count, *, start=0):
    """Verdicts of all seeds."""
    latent_fuzz.prepare(folder)
    step = -(-count // CHILDREN)
    with ThreadPoolExecutor(CHILDREN) as threads:
        parts = [
            threads.submit(read_mutations, folder, first, min(first + step, start + count))
            for first in range(start, start + count, step)
        ]
        found = {seed: verdict for part in parts for seed, verdict in part.result().items()}
    faults = {seed: verdict for seed, verdict in found.items() if verdict.startswith("FAULT")}
    assert not faults, "\n".join(f"seed {seed}: {verdict}" for seed, verdict in sorted(faults.items()))
    return Counter(found.values())


def test_lookup3():
    # The values of Jenkins' lookup3.c for hashlittle, and of HDF5's own test of its checksums.
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551


def test_metadata_with_a_repaired_checksum_reaches_hdf5(tmp_path):
    latent_fuzz.prepare(tmp_path)
    data = bytearray((tmp_path / "deflate").read_bytes())
    found = latent_fuzz.everything(tmp_path / "deflate")
    block = next(block for block in blocks_of(data) if b"gaussian" in data[block.start : block.stop])
    place = data.index(b"gaussian")
    data[place : place + 8] = b"Gaussian"
    (tmp_path / "damaged").write_bytes(data)
    assert latent_fuzz.judge(tmp_path / "damaged", found, repaired=True) == "refused"
    repair(data, block)
    (tmp_path / "repaired").write_bytes(data)
    assert latent_fuzz.judge(tmp_path / "repaired", found, repaired=True) == "other"


def test_some_mutations(tmp_path):
    assert fuzz(tmp_path, 300)["refused"] > 100


@pytest.mark.slow
def test_many_mutations(tmp_path):
    found = fuzz(tmp_path, 10_000, start=1_000)
    assert found["refused"] > 5_000
    assert found["same"] > 100
