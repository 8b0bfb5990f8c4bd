"""The sources as one JSON document; stdlib only."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from typing import TYPE_CHECKING, Any

from ngvae_tools.reporting.sources import NamedAnalysis

if TYPE_CHECKING:
    from ngvae_tools.reporting.sources import NamedRun, NamedSweep, Sources


def as_json(sources: Sources) -> str:
    """The sources as JSON: one analysis or sweep alone is its record's own text, else lists in an object.

    The lists are `analyses`, `runs` and, where there are some, `sweeps`, each entry with its `name` and `folder`, an
    analysis with `stale` where its latent file has changed since, and `skipped`, sentences; beside them is `stability`
    of several analyses where it was worked out.
    Numbers that JSON cannot hold (a loss that diverged) are null.
    """
    alone = [*sources.analyses, *sources.runs, *sources.sweeps]
    if len(alone) == 1 and not sources.runs:
        return (sources.analyses or sources.sweeps)[0].record.to_json()
    parts = {
        "analyses": _array([_analysis(named) for named in sources.analyses]),
        "runs": _array([_dump(_run(named)) for named in sources.runs]),
        "skipped": _dump(list(sources.skipped)),
    }
    if sources.sweeps:
        parts["sweeps"] = _array([_analysis(named) for named in sources.sweeps])
    if sources.stability is not None:
        parts["stability"] = _dump(dataclasses.asdict(sources.stability))
    return _object(parts) + "\n"


def _analysis(named: NamedAnalysis | NamedSweep) -> str:
    # The record's own text keeps a matrix row on one line.
    record = named.record.to_json().rstrip()
    parts = {"name": _dump(named.name), "folder": _dump(str(named.folder)), "record": record}
    if isinstance(named, NamedAnalysis) and named.stale is not None:
        parts["stale"] = _dump(named.stale)
    return _object(parts)


def _run(named: NamedRun) -> dict[str, Any]:
    record = named.record
    return {
        "name": named.name,
        "folder": str(named.folder),
        "finished": named.finished,
        "config": record.config,
        "summary": record.summary,
        "epochs": [dataclasses.asdict(epoch) for epoch in record.epochs],
    }


def _object(parts: dict[str, str]) -> str:
    return "{\n" + textwrap.indent(",\n".join(f"{json.dumps(k)}: {v}" for k, v in parts.items()), "  ") + "\n}"


def _array(parts: list[str]) -> str:
    return "[\n" + textwrap.indent(",\n".join(parts), "  ") + "\n]" if parts else "[]"


def _dump(value: Any) -> str:
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
