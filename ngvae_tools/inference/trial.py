"""Trying an untrusted model out in a process of its own, before it is opened here."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ngvae_tools.errors import ContractError
from ngvae_tools.inference.facts import ModelFacts, Outcome
from ngvae_tools.inference.inputs import InputPlan
from ngvae_tools.inference.onnx_file import read_bytes, unfit
from ngvae_tools.inference.providers import available_cpus

BASE_SECONDS = 60.0
"""Seconds that opening a model, and running it on a few images, may take each; large files and images get more."""

THREADS = min(4, available_cpus())
ANSWER_CHARS = 8 * 2**20
MAIN = "import sys; sys.path.append({root!r}); from ngvae_tools.inference.trial_process import main; main()"


_KNOWN: dict[tuple[str, str], dict[str, Any]] = {}
"""Answers by hash and request: the same bytes need no second trial in one process."""
MAX_KNOWN = 256


class Trial:
    """A child process that opens a model and runs it, within bounds of memory and time.

    Args:
        path: The ONNX file.

    Attributes:
        data: Its bytes, read once before the child reads them.

    Raises:
        ContractError: There is no file that can be read.

    Example:
        with Trial(path) as trial:
            facts = trial.facts()
            outcome = trial.run(plan, outputs)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = read_bytes(path)
        self._sha256 = hashlib.sha256(self.data).hexdigest()
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.close()

    def facts(self) -> ModelFacts:
        """Open the model; what it says of itself.

        Raises:
            ContractError: It cannot be read or opened within the bounds.
        """
        known = _KNOWN.get((self._sha256, "facts"))
        return ModelFacts.from_json(known or self._open()[1])

    def run(self, plan: InputPlan, outputs: tuple[str, ...]) -> Outcome:
        """Run the model on images of noise, once more on the same, and on two at once.

        Raises:
            ContractError: It cannot be run within the bounds.
        """
        batches = (plan.fixed_batch, plan.fixed_batch) if plan.fixed_batch else (1, 2)
        request = {
            "input": plan.name,
            "dtype": plan.dtype,
            "axes": plan.axes,
            "batches": batches,
            "low": plan.low,
            "high": plan.high,
            "outputs": outputs,
        }
        key = self._sha256, json.dumps(request)
        if (known := _KNOWN.get(key)) is None:
            seconds = BASE_SECONDS + batches[1] * math.prod(plan.axes) / 2**13
            child, facts = self._open()
            known = child.ask(request, seconds, "run")["outcome"]
            self._remember(key, facts, known)
        return Outcome.from_json(known)

    def _open(self) -> tuple[_Child, dict[str, Any]]:
        """The child that has opened the model, and its facts."""
        if self._child is None:
            self._child = _Child(self.path)
            request = {"path": os.path.abspath(self.path), "threads": THREADS}  # noqa: PTH100 - links stay links
            seconds = BASE_SECONDS + len(self.data) / 2**20
            self._facts: dict[str, Any] = self._child.ask(request, seconds, "opened")["facts"]
            self._remember((self._sha256, "facts"), self._facts, self._facts)
        return self._child, self._facts

    def _remember(self, key: tuple[str, str], facts: dict[str, Any], answer: dict[str, Any]) -> None:
        # External weights can change while the file that names them does not.
        if facts["sha256"] == self._sha256 and not facts["external_bytes"]:
            if len(_KNOWN) >= MAX_KNOWN:
                _KNOWN.clear()
            _KNOWN[key] = answer


class _Child:
    """The process of `ngvae_tools.inference.trial_process`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with the process
        root = str(Path(__file__).parents[2])
        # Every thread of a BLAS would count against the limit of memory.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and a constant
            [sys.executable, "-P", "-c", MAIN.format(root=root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="ascii",
            errors="backslashreplace",
            env=environment,
        )

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        self._process.wait()

    def ask(self, request: dict[str, Any], seconds: float, what: str) -> dict[str, Any]:
        """Send a request and wait for its answer, so many seconds at most."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            with suppress(BrokenPipeError):
                print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline(ANSWER_CHARS)
        finally:
            timer.cancel()
        if line.endswith("\n"):
            answer: dict[str, Any] = json.loads(line)
            if "refused" in answer:
                raise unfit(self._path, *answer["refused"])
            return answer
        if late.is_set():
            found, remedy = "one that did not end", "look for loops in it, or export it for smaller images"
            raise unfit(self._path, f"a model that can be {what} within {seconds:.0f} s", found, remedy)
        raise self._crashed(what)

    def _crashed(self, what: str) -> ContractError:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._log.seek(0)
        last = self._log.read(2**16).decode(errors="replace").strip().splitlines()[-1:]
        found = f"a crash (exit status {status}{': ' + last[0][:200] if last else ''})"
        return unfit(self._path, f"a model that can be {what}", found, "export it again")
