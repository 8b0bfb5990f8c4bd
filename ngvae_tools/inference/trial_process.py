"""The child process in which an untrusted model is opened and run first, within bounds of memory and time.

It speaks JSON lines: a request with the path, answered by the file's facts; then one with what to run, answered by
the outcome. Every refusal is an answer too; only a crash or the parent's time limit ends it without one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ngvae_tools.errors import ContractError
from ngvae_tools.inference.onnx_file import parameters, read_bytes, read_model, unfit
from ngvae_tools.inference.providers import CPU, session_options

BASE_MEMORY = 2 * 2**30
MEMORY_PER_BYTE = 8
MEMORY_PER_SAMPLE = 4096
"""Bytes that a model may take beyond the interpreter: a base, for each byte of the file (it is read, parsed and
copied), and for each sample of an image (its feature maps: 1024 float32 values for each)."""

MAX_METADATA = 2**20
MAX_PORTS = 1000
LOG_BYTES = 2**20
STANDARD_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
OUT_OF_MEMORY = re.compile(r"allocat|bad_alloc|out of memory|available memory", re.IGNORECASE)


def main() -> None:
    """Answer the two requests of the parent."""
    threading.Thread(target=_follow_parent, args=(os.getppid(),), daemon=True).start()
    request = _next_request()
    if request is None:
        return
    path = Path(request["path"])
    try:
        session, facts, size = _open(path, request["threads"])
        _answer({"facts": facts})
        plan = _next_request()
        if plan is not None:
            _answer({"outcome": _run(path, session, plan, size)})
    except ContractError as error:
        _answer({"refused": [error.expected, error.found, error.remedy]})


def _follow_parent(parent: int) -> None:
    """End this process when nobody waits for it any more, whatever the model does."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _open(path: Path, threads: int) -> tuple[Any, dict[str, Any], int]:
    data = read_bytes(path)
    bound = _limit(BASE_MEMORY + MEMORY_PER_BYTE * len(data))
    with _in_memory(path, bound):
        model = read_model(path, data)
        size = len(data) + model.external_bytes
        bound = _limit(BASE_MEMORY + MEMORY_PER_BYTE * size)
        facts = _facts(path, model.proto, len(data))
        facts |= {"sha256": model.sha256, "external_bytes": model.external_bytes}
        whole = model.proto.SerializeToString() if model.external_bytes else data
        try:
            session = onnxruntime.InferenceSession(whole, session_options(threads), providers=[CPU])
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no public base
            raise _failed(path, "an ONNX model that onnxruntime can run", error, _foreign(model.proto), bound) from None
    for side, ports in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        if len(ports) > MAX_PORTS:
            raise unfit(path, f"at most {MAX_PORTS} {side}", f"{len(ports)}", "export the encoder alone")
        facts[side] = [[port.name, port.type, port.shape or []] for port in ports]
    facts["metadata"] = session.get_modelmeta().custom_metadata_map
    if sum(map(len, facts["metadata"].values())) > MAX_METADATA:
        raise unfit(path, "metadata of at most 1 MiB", "more", "export it without them")
    return session, facts, size


def _facts(path: Path, model: Any, size: int) -> dict[str, Any]:
    operators: dict[str, int] = {}
    for node in model.graph.node:
        name = node.op_type if node.domain in {"", "ai.onnx"} else f"{node.domain}.{node.op_type}"
        operators[name] = operators.get(name, 0) + 1
    if len(operators) > MAX_PORTS:
        raise unfit(path, f"at most {MAX_PORTS} operators", f"{len(operators)}", "export it again")
    versions = [entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}]
    return {
        "bytes": size,
        "opset": versions[0] if versions else None,
        "producer": f"{model.producer_name} {model.producer_version}".strip()[:200],
        "operators": operators,
        "parameters": parameters(model),
    }


def _foreign(model: Any) -> list[str]:
    """Operators of domains that onnxruntime does not have and the file does not define."""
    defined = {function.domain for function in model.functions} | STANDARD_DOMAINS
    return sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in defined})


def _run(path: Path, session: Any, plan: dict[str, Any], size: int) -> dict[str, Any]:
    small, large = plan["batches"]
    samples = int(np.prod(plan["axes"], dtype=np.int64)) * large
    bound = _limit(BASE_MEMORY + MEMORY_PER_BYTE * size + MEMORY_PER_SAMPLE * samples)
    with _in_memory(path, bound):
        noise, least = _images(plan)
        # Wherever there are two, the second batch has other images beside the first one.
        first = np.stack([noise] * small)
        second = np.stack([noise, *[least] * (large - 1)])

        def run(images: np.ndarray[Any, Any]) -> list[Any]:
            return list(session.run(plan["outputs"], {plan["input"]: images}))

        try:
            before = _memory("VmRSS")
            once, again = run(first), run(first)
        except Exception as error:  # noqa: BLE001 - the same
            raise _failed(path, "a graph that runs", error, [], bound) from None
        second_error = None
        started = time.perf_counter()
        try:
            other = run(second)
        except Exception as error:  # noqa: BLE001 - the same
            second_error, other = _line(error), once
        seconds = (time.perf_counter() - started) / large
        each = zip(plan["outputs"], once, again, other, strict=True)
        return {
            "batches": plan["batches"],
            "outputs": {name: _described(*arrays) for name, *arrays in each},
            "seconds_per_image": seconds,
            "bytes_per_image": max(_memory("VmHWM") - before, 0) // large,
            "second_error": second_error,
        }


def _images(plan: dict[str, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """An image of noise and one of the least value, as the graph takes them."""
    low, high, dtype = plan["low"], plan["high"], np.dtype(plan["dtype"])
    noise = np.random.default_rng(0).uniform(low, high, plan["axes"])
    return noise.astype(dtype), np.full(plan["axes"], low, dtype=dtype)


def _described(once: Any, again: Any, other: Any) -> dict[str, Any]:
    if not all(isinstance(value, np.ndarray) for value in (once, again, other)):
        kind = type(once).__name__
        nothing = {"finite": False, "low": None, "high": None, "varies": False, "mixes": False}
        return {"dtype": kind, "first": [], "second": []} | nothing
    of = {"dtype": str(once.dtype), "first": once.shape, "second": other.shape}
    if once.dtype.kind != "f" or not once.ndim or not once.size:
        return of | {"finite": True, "low": None, "high": None, "varies": False, "mixes": False}
    rows = [row for array in (once, other) for row in np.asarray(array, np.float64).reshape(len(array), -1)]
    whole = [row for row in rows if np.isfinite(row).all()]
    low = min((float(row.min()) for row in whole), default=None)
    high = max((float(row.max()) for row in whole), default=None)
    scale = max((float(np.abs(row).max()) for row in whole), default=0.0)
    comparable = once.shape[1:] == other.shape[1:]
    return of | {
        "finite": bool(whole),
        "low": low,
        "high": high,
        "varies": once.shape != again.shape or not _close(once, again, 1e-4 * scale),
        # Half precision and other kernels for other batches differ by far less than a neighbour's influence.
        "mixes": comparable and not _close(once[0], other[0], 1e-2 * scale + 1e-4),
    }


def _close(one: Any, two: Any, tolerance: float) -> bool:
    return bool(np.allclose(one, two, rtol=0, atol=tolerance, equal_nan=True))


@contextlib.contextmanager
def _in_memory(path: Path, bound: int) -> Any:
    try:
        yield
    except MemoryError:
        raise _too_large(path, bound) from None


def _failed(path: Path, expected: str, error: Exception, foreign: list[str], bound: int) -> ContractError:
    line = _line(error)
    if OUT_OF_MEMORY.search(line) or isinstance(error, MemoryError):
        return _too_large(path, bound)
    if foreign:
        remedy = "export it with the standard operators of ONNX (ai.onnx) only"
        return unfit(path, expected, f"operators that are not there: {', '.join(foreign)[:200]}", remedy)
    return unfit(path, expected, line, "export it again, and check it with onnx.checker")


def _too_large(path: Path, bound: int) -> ContractError:
    remedy = "export it without what allocates so much, or for smaller images"
    return unfit(path, f"a model that runs within {bound / 2**30:.1f} GiB", "one that asks for more memory", remedy)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # onnxruntime puts the places in its own source before what it has to say.
    text = re.sub(r"/\S*onnxruntime\S*\.(cc|h):\d+ .*?\) ", "", text).removeprefix("[ONNXRuntimeError] : ")
    return text[:300]


def _limit(memory: int) -> int:
    """Bound what this process may take from now on; the bound in bytes beyond what it has."""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        memory = min(memory, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    # Windows has no such limits, and macOS does not hold to that of memory: there the time limit remains.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        def soft(kind: int, value: int) -> None:
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))

        soft(resource.RLIMIT_CORE, 0)
        soft(resource.RLIMIT_FSIZE, LOG_BYTES)
        if size := _memory("VmSize"):
            soft(resource.RLIMIT_AS, size + memory)
    return memory


def _memory(key: str) -> int:
    """A figure of this process's memory in bytes; 0 where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _next_request() -> dict[str, Any] | None:
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def _answer(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 - stdout is the channel to the parent


if __name__ == "__main__":
    main()
