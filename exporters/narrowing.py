"""A decoder with an input of some latent dimensions, the others held at their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from exporters.restriction import rename, strip, uses


def narrowed(
    model: onnx.ModelProto, latent: str, kept: Sequence[int], mean: npt.NDArray[np.float64], *, in_weights: bool
) -> tuple[onnx.ModelProto, bool]:
    """The model with an input of the kept dimensions, and whether the others went into its weights."""
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    graph = pruned.graph
    value = next(value for value in graph.input if value.name == latent)
    value.type.tensor_type.shape.dim[1].dim_value = len(kept)
    if len(kept) == len(mean):
        return pruned, True
    rank = len(value.type.tensor_type.shape.dim)
    folded = in_weights and _fold(graph, latent, kept, mean, rank=rank)
    if not folded:
        _put_in_front(graph, latent, kept, mean, rank=rank)
    strip(graph)
    return pruned, folded


def _fold(
    graph: onnx.GraphProto, latent: str, kept: Sequence[int], mean: npt.NDArray[np.float64], *, rank: int
) -> bool:
    """Take the dropped dimensions out of the one node that reads z: their part is a constant, added to its bias."""
    readers = [node for node in graph.node if latent in uses(node)]
    node = readers[0]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constant = [numpy_helper.to_array(weights[name]) if name in weights else None for name in node.input[1:]]
    if len(readers) > 1 or node.input[0] != latent or not constant or any(part is None for part in constant):
        return False
    weight, *bias = (part for part in constant if part is not None)
    options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if weight.dtype != np.float32:
        return False
    old = bias[0].astype(np.float64) if bias else np.zeros(1)
    # Of a spatial latent it multiplies the columns, not the channels.
    if node.op_type == "MatMul" and weight.ndim == rank == 2:
        columns, options = weight, {}
    elif node.op_type == "Gemm" and not options.get("transA") and (old.ndim < 2 or old.shape[0] == 1):
        columns = options.get("alpha", 1.0) * (weight.T if options.get("transB") else weight).astype(np.float64)
        old = old * options.get("beta", 1.0)
        options = {}
    elif node.op_type == "Conv" and weight.shape[2:] == (1, 1) and options.get("group", 1) == 1 and not _pads(options):
        columns = weight[:, :, 0, 0].T
    else:
        return False
    dropped = [k for k in range(len(mean)) if k not in kept]
    offset = mean[dropped] @ columns[dropped].astype(np.float64) + old.reshape(-1)
    narrow = columns[list(kept)].astype(np.float32)
    operator = "Conv" if node.op_type == "Conv" else "Gemm"
    if operator == "Conv":
        narrow = narrow.T[:, :, None, None]
    names = [f"{node.output[0]}/narrow/weight", f"{node.output[0]}/narrow/bias"]
    for name, part in zip(names, (narrow, offset.astype(np.float32)), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(part), name))
    node.CopyFrom(helper.make_node(operator, [latent, *names], list(node.output), name=node.name, **options))
    return True


def _pads(options: Mapping[str, Any]) -> bool:
    return any(options.get("pads", ())) or options.get("auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"}


def _put_in_front(
    graph: onnx.GraphProto, latent: str, kept: Sequence[int], mean: npt.NDArray[np.float64], *, rank: int
) -> None:
    """Compute the whole latent vector from the kept part: a matrix of ones and noughts, and the means as bias."""
    spread = np.zeros((len(kept), len(mean)), dtype=np.float32)
    spread[np.arange(len(kept)), list(kept)] = 1
    bias = mean.astype(np.float32)
    bias[list(kept)] = 0
    if rank == 4:
        spread = spread.T[:, :, None, None]
    whole = f"{latent}/whole"
    rename(graph, latent, whole)
    names = [f"{whole}/spread", f"{whole}/mean"]
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(part), name)
        for name, part in zip(names, (spread, bias), strict=True)
    )
    graph.node.insert(0, helper.make_node("Conv" if rank == 4 else "Gemm", [latent, *names], [whole], name=whole))
