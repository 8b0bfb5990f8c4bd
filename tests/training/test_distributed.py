"""Two real processes under torchrun train one model."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ngvae_tools.datasets import write_sprites
from ngvae_tools.errors import OptionError
from ngvae_tools.training.distributed import Ranks

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, sys, weakref
from pathlib import Path
import numpy as np
import torch
from ngvae_tools import train
from ngvae_tools.training import loop
from ngvae_tools.training.data import TrainingImages

data, folder, options = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
rank = int(os.environ.get("RANK", 0))
torch.set_num_threads(1)
loop.REPORT_EVERY = 1
loop.CHECKPOINT_SECONDS = 0.0
epoch, digest = TrainingImages.epoch, loop.Trainer._check_equal
fail = options.pop("fail", None)

def noted(self, number, batch_size, **keywords):
    for batch in epoch(self, number, batch_size, **keywords):
        with open(f"{folder}-seen-{number}-{rank}", "ab") as file:
            file.write(batch.tobytes())
        if fail == "error" and rank == 1 and number == 2:
            from ngvae_tools.errors import DatasetError
            raise DatasetError("the disk of process 1 is gone", expected="x", found="y", remedy="z")
        if fail == "differ" and rank == 1 and number == 2:
            with torch.no_grad():
                current[0].weights[0] += 1
        yield batch

current, groups = [], []
init = loop.Trainer.__init__
def kept(self, *arguments):
    init(self, *arguments)
    current.append(self)
    if "RANK" in os.environ:
        groups.append(weakref.ref(torch.distributed.group.WORLD))

def equal(self, number):
    weights = np.concatenate([w.detach().numpy().ravel() for w in self.weights])
    np.save(f"{folder}-weights-{rank}.npy", weights)
    generator = torch.Generator().set_state(self.generator.get_state())
    np.save(f"{folder}-draw-{rank}.npy", torch.rand(5, generator=generator))
    digest(self, number)

TrainingImages.epoch, loop.Trainer.__init__, loop.Trainer._check_equal = noted, kept, equal
try:
    train(data, folder, **options)
except Exception as error:
    print(f"SAID by {rank}: {error}", flush=True)
    sys.exit(getattr(error, "exit_code", 1))
# The threads of a group that is kept would go on, and may abort the process while Python ends.
if any(group() is not None for group in groups):
    print(f"SAID by {rank}: the process group is kept", flush=True)
    sys.exit(1)
"""

OPTIONS = {"epochs": 2, "latent_dim": 3, "device": "cpu", "batch_size": 32}


@pytest.fixture
def torchrun(tmp_path):
    data = tmp_path / "data.h5"
    write_sprites(data, images=200, size=32)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder, count=2, **options):
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count else []
        words = [*(["-m", *launcher] if launcher else []), str(script), str(data), str(folder)]
        return subprocess.Popen(
            [sys.executable, *words, json.dumps(OPTIONS | options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )

    return start


def ended(process, timeout=150):
    out, _ = process.communicate(timeout=timeout)
    return process.returncode, out


def comparable(folder):
    lines = [json.loads(line) | {"seconds": 0} for line in (folder / "history.jsonl").read_text().splitlines()]
    return lines, (folder / "encoder.onnx").read_bytes(), (folder / "decoder.onnx").read_bytes()


def workers_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_two_processes_train_one_model(torchrun, tmp_path):
    code, out = ended(torchrun(tmp_path / "two"))
    assert (code, "SAID" in out) == (0, False), out
    np.testing.assert_array_equal(np.load(tmp_path / "two-weights-0.npy"), np.load(tmp_path / "two-weights-1.npy"))
    assert not np.array_equal(np.load(tmp_path / "two-draw-0.npy"), np.load(tmp_path / "two-draw-1.npy"))
    run = json.loads((tmp_path / "two/config.json").read_text())
    assert (run["processes"], run["data"]["n_train"]) == (2, 180)
    size = 32 * 32 * 3
    for epoch in (1, 2):
        shares = [np.fromfile(tmp_path / f"two-seen-{epoch}-{rank}", np.uint8).reshape(-1, size) for rank in (0, 1)]
        assert len(np.unique(np.concatenate(shares), axis=0)) == sum(len(share) for share in shares) == 180
        assert len(shares[0]) == len(shares[1])
    code, out = ended(torchrun(tmp_path / "one", count=0))
    assert code == 0, out
    # The same batches with other draws of z: close, and not the same.
    one, two = (comparable(tmp_path / name)[0][-1]["train"]["loss"] for name in ("one", "two"))
    assert one != two
    assert two == pytest.approx(one, rel=0.1)


def test_a_killed_job_goes_on_to_the_same_weights(torchrun, tmp_path):
    code, out = ended(torchrun(tmp_path / "whole"))
    assert code == 0, out
    job = torchrun(tmp_path / "killed")
    until = time.monotonic() + 100
    while not (tmp_path / "killed/checkpoint.pt").exists():
        assert time.monotonic() < until
        assert job.poll() is None
        time.sleep(0.05)
    workers = workers_of(job.pid)
    assert len(workers) == 2
    for pid in (job.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    job.communicate()
    assert not (tmp_path / "killed/summary.json").exists()
    code, out = ended(torchrun(tmp_path / "killed"))
    assert code == 0, out
    assert comparable(tmp_path / "killed") == comparable(tmp_path / "whole")


@pytest.mark.parametrize(
    ("fail", "said"), [("error", "SAID by 1: the disk of process 1 is gone"), ("differ", "SAID by 0: .*models differ")]
)
def test_the_failure_of_one_ends_all(torchrun, tmp_path, fail, said):
    start = time.monotonic()
    code, out = ended(torchrun(tmp_path / "run", fail=fail))
    assert time.monotonic() - start < 120
    assert code != 0
    assert re.search(said, out), out
    assert (tmp_path / "run/checkpoint.pt").exists()
    assert not (tmp_path / "run/summary.json").exists()


def test_another_number_of_processes_is_another_run(torchrun, tmp_path):
    job = torchrun(tmp_path / "run", fail="error")
    ended(job)
    code, out = ended(torchrun(tmp_path / "run", count=0))
    assert code == 2
    assert "processes was 2" in out


def test_a_batch_that_cannot_be_shared():
    assert Ranks(0, 4).share_of(64) == 16
    with pytest.raises(OptionError, match="a multiple of 3"):
        Ranks(0, 3).share_of(64)


def test_alone_nothing_is_sent():
    values = torch.arange(3.0)
    assert Ranks().gather("x") == ["x"]
    assert Ranks().from_first("x") == "x"
    assert Ranks().add_up(values) is values
    Ranks().average([values], 5)
    assert values.tolist() == [0, 1, 2]
