"""The file of one finished shard: an uncompressed .npz, whose checksums tell a damaged one."""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.bootstrap import Replicates
from ngvae_tools.analysis.moments import Moments
from ngvae_tools.analysis.sample import Sample
from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.analysis.survey import Sums, SurveyPart
from ngvae_tools.analysis.tree import Node
from ngvae_tools.datasets import Rejection
from ngvae_tools.datasets.footprint import Footprint
from ngvae_tools.errors import RecordError
from ngvae_tools.files import replacing
from ngvae_tools.inference.shards import Shard, ShardResult

Arrays = dict[str, npt.NDArray[Any]]

MOMENTS = ("mu", "variance", "entropy", "rate", "p")

DAMAGED = (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged file raises."""


def write_shard(path: Path, result: ShardResult) -> None:
    """Write a shard's file in one step: whole and on the disk, or not there.

    Raises:
        OutputError: The disk refuses it.
    """
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **_to_arrays(result))


def read_shard(path: Path) -> ShardResult:
    """A shard's result, its checksums looked at.

    Raises:
        RecordError: The file is damaged, or no shard.
    """
    try:
        # Opened here: NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
            return _from_arrays({name: npz[name] for name in npz.files})
    except DAMAGED as error:
        raise RecordError(
            f"{path} cannot be read",
            expected="a shard as select-latents wrote it",
            found=str(error) or type(error).__name__,
            remedy="remove it and run the same command again: it is then encoded anew",
        ) from error


def _to_arrays(result: ShardResult) -> Arrays:
    shard, part = result.shard, result.part
    rejected = [[r.index, r.identifier, r.reason] for r in result.rejected]
    arrays: Arrays = {
        "shard": np.array([shard.number, shard.start, shard.stop], np.int64),
        "index": result.index,
        "mu": result.mu,
        # ASCII escapes keep surrogates, and with them any file name, reversible.
        "rejected": np.frombuffer(json.dumps(rejected).encode("ascii"), np.uint8),
        "n_images": np.array(part.n_images, np.int64),
        "footprint": np.array([-1 if n is None else n for n in dataclasses.astuple(result.footprint)], np.int64),
        **_nodes_to_arrays(part.nodes),
    }
    if result.identifiers is not None:
        arrays["identifiers"] = result.identifiers
    if part.sample is not None:
        sample = part.sample
        arrays |= {"sample_row": sample.row, "sample_priority": sample.priority, "sample_mu": sample.mu}
        if sample.second is not None:
            arrays["sample_second"] = sample.second
    return arrays


def _from_arrays(arrays: Arrays) -> ShardResult:
    shard = Shard(*(int(n) for n in arrays["shard"]))
    sample = None
    if "sample_row" in arrays:
        rows, priorities, mu = (arrays[f"sample_{name}"] for name in ("row", "priority", "mu"))
        sample = Sample(rows, priorities, mu, arrays.get("sample_second"))
    result = ShardResult(
        shard,
        arrays["index"],
        arrays["mu"],
        arrays.get("identifiers"),
        tuple(Rejection(*row) for row in json.loads(arrays["rejected"].tobytes())),
        SurveyPart(int(arrays["n_images"]), _nodes_from_arrays(arrays), sample),
        _footprint(arrays["footprint"]),
    )
    if not len(result.index) == len(result.mu) == shard.stop - shard.start - len(result.rejected):
        raise ValueError(f"{len(result.index)} images for the shard {shard}")
    return result


def _footprint(numbers: npt.NDArray[np.int64]) -> Footprint:
    images, raw, png, jpeg = (int(n) for n in numbers)
    return Footprint(images, raw, None if png < 0 else png, None if jpeg < 0 else jpeg)


def _nodes_to_arrays(nodes: tuple[Node[Sums], ...]) -> Arrays:
    full = [node.value for node in nodes if node.value is not None]
    arrays: Arrays = {
        "node_level": np.array([node.level for node in nodes], np.int64),
        "node_position": np.array([node.position for node in nodes], np.int64),
        "node_full": np.array([node.value is not None for node in nodes], np.bool_),
    }
    if not full:
        return arrays
    first = full[0]
    for name in MOMENTS:
        moments = [getattr(sums.statistics, name) for sums in full]
        if moments[0] is not None:
            arrays[f"{name}_count"] = np.array([m.count for m in moments], np.int64)
            arrays[f"{name}_mean"] = np.stack([m.mean for m in moments])
            arrays[f"{name}_comoment"] = np.stack([m.comoment for m in moments])
    arrays["low"] = np.stack([sums.statistics.low for sums in full])
    arrays["high"] = np.stack([sums.statistics.high for sums in full])
    if first.statistics.p_histogram is not None:
        arrays["p_histogram"] = np.stack([np.asarray(sums.statistics.p_histogram) for sums in full])
    if first.replicates is not None:
        for name in ("weight", "mean", "squares"):
            arrays[f"replicates_{name}"] = np.stack([getattr(sums.replicates, name) for sums in full])
    return arrays


def _nodes_from_arrays(arrays: Arrays) -> tuple[Node[Sums], ...]:
    places = np.cumsum(arrays["node_full"]) - 1
    return tuple(
        Node(int(level), int(position), _sums(arrays, int(place)) if full else None)
        for level, position, full, place in zip(
            arrays["node_level"], arrays["node_position"], arrays["node_full"], places, strict=True
        )
    )


def _sums(arrays: Arrays, place: int) -> Sums:
    moments: dict[str, Any] = {
        name: Moments(
            int(arrays[f"{name}_count"][place]), arrays[f"{name}_mean"][place], arrays[f"{name}_comoment"][place]
        )
        if f"{name}_count" in arrays
        else None
        for name in MOMENTS
    }
    statistics = LatentStatistics(
        **moments,
        p_histogram=arrays["p_histogram"][place] if "p_histogram" in arrays else None,
        low=arrays["low"][place],
        high=arrays["high"][place],
    )
    names = ("weight", "mean", "squares")
    has_replicates = "replicates_weight" in arrays
    replicates = Replicates(*(arrays[f"replicates_{name}"][place] for name in names)) if has_replicates else None
    return Sums(statistics, replicates)
