"""Memory that a process keeps."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import numpy as np
from ngvae_tools.training.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def step():
    buffers = [np.ones(2**21, np.float32) for _ in range(4)]

step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_buffers_of_a_step_are_not_taken_from_the_system_again():
    def faults(how):
        words = [sys.executable, "-c", STEPS, how]
        return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    # Four buffers of 8 MiB: 8,192 pages of 4 KiB, fewer where the system hands out huge ones.
    assert faults("keep") == 0
    assert faults("default") > 10
