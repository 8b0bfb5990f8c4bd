"""Seconds that `ngvae-tools --help` takes as a whole process: `python tests/benchmarks/startup.py`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15


def main() -> None:
    """Print minimum, median and maximum, and those of an interpreter that does nothing."""
    program = Path(sys.executable).with_name("ngvae-tools")
    for name, command in (("ngvae-tools --help", [program, "--help"]), ("python -c pass", [sys.executable, "-c", ""])):
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - start)
        print(f"{name}: min {min(seconds):.3f} s, median {statistics.median(seconds):.3f} s, max {max(seconds):.3f} s")


if __name__ == "__main__":
    main()
