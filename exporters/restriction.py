"""Tensors of an ONNX graph with some indices along one axis only, computed from fewer weights where that is provable.

What computes a part of a tensor is found by going backwards through the operators that compute the whole: a
column of a matrix product needs one column of the weights, a row of a sum needs the same row of each term. The
graph's own nodes are left as they are; the new ones stand behind them, and `strip` drops what nothing needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

MAX_DEPTH = 64
"""Operators that are followed backwards; a Gather stands there where a chain is longer."""

Indices = tuple[int, ...]
Dims = tuple[int | None, ...]
Rule = Callable[["Restriction", NodeProto, str, int, Indices], "str | None"]

# fmt: off
ELEMENTWISE = frozenset(
    (
        "Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Dropout", "Elu", "Equal", "Erf",
        "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity",
        "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "Not", "Or",
        "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus",
        "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where",
    )
)
# fmt: on
"""Operators whose result at a place depends on their inputs at that place alone, broadcast as numpy does."""


class Restriction:
    """Adds nodes that compute parts of a model's tensors.

    Args:
        model: It is changed: nodes and initializers are added.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._producers = {name: node for node in model.graph.node for name in node.output if name}
        self._constants = _constants(model.graph)
        self._dims = _dims(model) | {name: tuple(tensor.dims) for name, tensor in self._constants.items()}
        self._known: dict[tuple[str, int, Indices], str] = {}
        self._names = set(self._dims) | set(self._producers) | {value.name for value in model.graph.input}
        self._depth = 0
        self.gathers: set[str] = set()

    def take(self, name: str, axis: int, indices: Sequence[int]) -> str:
        """The name of a tensor that is `name` with `indices` along `axis`."""
        chosen = tuple(int(i) for i in indices)
        key = (name, axis, chosen)
        if key not in self._known:
            self._depth += 1
            self._known[key] = self._taken(name, axis, chosen)
            self._depth -= 1
        return self._known[key]

    def gather(self, name: str, axis: int, indices: Sequence[int]) -> str:
        """The same with the whole tensor computed first."""
        constant = self.constant(np.array(indices, dtype=np.int64), f"{name}/indices")
        output = self._fresh(name)
        self._graph.node.append(helper.make_node("Gather", [name, constant], [output], name=output, axis=axis))
        self.gathers.add(output)
        return output

    def constant(self, value: npt.NDArray[np.generic], name: str) -> str:
        """The name of a new initializer."""
        fresh = self._fresh(name)
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), fresh))
        return fresh

    def _taken(self, name: str, axis: int, indices: Indices) -> str:
        if indices == tuple(range(self._size(name, axis) or 0)):
            return name
        if name in self._constants:
            return self.constant(numpy_helper.to_array(self._constants[name]).take(indices, axis), name)
        node = self._producers.get(name)
        if node is None or node.domain not in {"", "ai.onnx"} or self._depth > MAX_DEPTH:
            return self.gather(name, axis, indices)
        rule = _RULES.get(node.op_type, _elementwise if node.op_type in ELEMENTWISE else _unknown)
        return rule(self, node, name, axis, indices) or self.gather(name, axis, indices)

    def _size(self, name: str, axis: int) -> int | None:
        dims = self._dims.get(name)
        return dims[axis] if dims is not None and axis < len(dims) else None

    def _rank(self, name: str) -> int | None:
        dims = self._dims.get(name)
        return None if dims is None else len(dims)

    def _ints(self, name: str) -> list[int] | None:
        """Values of a constant tensor of whole numbers."""
        if name not in self._constants:
            return None
        return [int(value) for value in numpy_helper.to_array(self._constants[name]).reshape(-1)]

    def _aligned(self, name: str, of: str, axis: int, indices: Indices) -> str | None:
        """The input `name` of an operator that broadcasts it to `of`, restricted as `of` is; None if unprovable."""
        ours, theirs = self._dims.get(name), self._dims.get(of)
        if not name:
            return name
        if ours is None or theirs is None:
            return None
        own = axis - (len(theirs) - len(ours))
        if own < 0 or ours[own] == 1:
            return name
        return self.take(name, own, indices) if ours[own] is not None and ours[own] == theirs[axis] else None

    def _clone(self, node: NodeProto, output: str, inputs: Sequence[str | None]) -> str | None:
        """A copy of a node with other inputs; the name of its copy of `output`, None if an input is None."""
        if any(name is None for name in inputs):
            return None
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("input")
        copy.input.extend(name for name in inputs if name is not None)
        names = [name and self._fresh(name) for name in node.output]
        copy.ClearField("output")
        copy.output.extend(names)
        copy.name = names[list(node.output).index(output)]
        self._graph.node.append(copy)
        return str(copy.name)

    def _fresh(self, name: str) -> str:
        number = 0
        while (fresh := f"{name}/kept{number or ''}") in self._names:
            number += 1
        self._names.add(fresh)
        return fresh


def restricted(
    model: onnx.ModelProto, heads: Sequence[str], axis: int, rows: Sequence[int], *, in_weights: bool
) -> tuple[onnx.ModelProto, bool]:
    """The model with its heads restricted to rows of an axis, and whether no Gather was needed for that."""
    pruned = onnx.ModelProto()
    pruned.CopyFrom(model)
    graph = pruned.graph
    outputs = {value.name: value for value in graph.output}
    for name in heads:
        rename(graph, name, f"{name}/whole")
    restriction = Restriction(pruned)
    take = restriction.take if in_weights else restriction.gather
    for name in heads:
        graph.node.append(helper.make_node("Identity", [take(f"{name}/whole", axis, rows)], [name], name=name))
    graph.ClearField("output")
    graph.output.extend(outputs[name] for name in heads)
    for value in graph.output:
        dims = value.type.tensor_type.shape.dim
        if len(dims) > axis:
            dims[axis].dim_value = len(rows)
    _name_heads(graph)
    return pruned, not restriction.gathers & strip(graph)


def name_outputs(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give outputs new names, by their present ones; another tensor that has one of those lets go of it."""
    changed = {old: new for old, new in names.items() if old != new}
    steps = [(old, f"{old}/head") for old in changed]
    steps += [(new, f"{new}/other") for new in changed.values() if new not in changed]
    steps += [(f"{old}/head", new) for old, new in changed.items()]
    for old, new in steps:
        rename(graph, old, new)
        for value in (*graph.input, *graph.output, *graph.value_info):
            value.name = new if value.name == old else value.name


def _name_heads(graph: onnx.GraphProto) -> None:
    """Let the node that computes a head carry its name, where nothing else reads it."""
    read = [name for node in graph.node for name in uses(node)]
    for head in [value.name for value in graph.output]:
        identity = next(node for node in graph.node if head in node.output)
        source = identity.input[0]
        if read.count(source) == 1 and any(source in node.output for node in graph.node):
            graph.node.remove(identity)
            rename(graph, source, head)


def strip(graph: onnx.GraphProto) -> set[str]:
    """Drop nodes, weights and shapes that no output needs; the names of the nodes that are left."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed |= uses(node)
    left = onnx.GraphProto()
    left.node.extend(reversed(kept))
    left.initializer.extend(tensor for tensor in graph.initializer if tensor.name in needed)
    left.sparse_initializer.extend(tensor for tensor in graph.sparse_initializer if tensor.values.name in needed)
    for field in ("node", "initializer", "sparse_initializer"):
        graph.ClearField(field)
    graph.MergeFrom(left)
    graph.ClearField("value_info")
    return {node.name for node in graph.node}


def uses(node: NodeProto) -> set[str]:
    """Names of all tensors that a node reads, those that its subgraphs take from around it among them."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names |= {value.name for value in graph.output}.union(*(uses(inner) for inner in graph.node))
    return names


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a tensor that nodes compute or read, or a weight, another name, in subgraphs too."""
    for tensor in graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                rename(inner, old, new)
                for value in inner.output:
                    value.name = new if value.name == old else value.name


def _constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _dims(model: onnx.ModelProto) -> dict[str, Dims]:
    """Sizes of every tensor whose rank is known, None for a size that is not."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        graph = model.graph
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _attribute(node: NodeProto, name: str, default: object = None) -> object:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _unknown(_self: Restriction, _node: NodeProto, _name: str, _axis: int, _indices: Indices) -> None:
    return None


def _elementwise(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    return self._clone(node, name, [self._aligned(value, name, axis, indices) for value in node.input])


def _gemm(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    if axis != 1 or self._rank(name) != 2:
        return None
    a, b, *bias = node.input
    weight = self.take(b, 0 if _attribute(node, "transB", 0) else 1, indices)
    return self._clone(node, name, [a, weight, *(self._aligned(value, name, 1, indices) for value in bias)])


def _matmul(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    a, b = node.input
    rank, left, right = self._rank(name), self._rank(a), self._rank(b)
    if rank is None or left is None or right is None or left < 2 or right < 2:
        return None
    if axis == rank - 1:
        return self._clone(node, name, [a, self.take(b, right - 1, indices)])
    if left == rank and (axis == rank - 2 or right == 2):
        return self._clone(node, name, [self.take(a, axis, indices), b])
    return None


def _convolution(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    if axis != 1 or _attribute(node, "group", 1) != 1:
        return None
    x, weight, *bias = node.input
    kept = self.take(weight, 0 if node.op_type == "Conv" else 1, indices)
    return self._clone(node, name, [x, kept, *(value and self.take(value, 0, indices) for value in bias)])


def _normalisation(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    if axis != 1 or _attribute(node, "training_mode", 0):
        return None
    x, *parameters = node.input
    return self._clone(node, name, [self.take(x, 1, indices), *(self.take(value, 0, indices) for value in parameters)])


def _pool(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    if axis != 1 or len(node.output) != 1:
        return None
    return self._clone(node, name, [self.take(node.input[0], 1, indices)])


def _reduction(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    rank = self._rank(node.input[0])
    axes = self._ints(node.input[1]) if len(node.input) > 1 else _attribute(node, "axes")
    if rank is None or not isinstance(axes, list) or not axes:
        return None
    reduced = {a % rank for a in axes}
    left = list(range(rank)) if _attribute(node, "keepdims", 1) else [a for a in range(rank) if a not in reduced]
    if left[axis] in reduced:
        return None
    return self._clone(node, name, [self.take(node.input[0], left[axis], indices), *node.input[1:]])


def _split(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    rank = self._rank(node.input[0])
    along = _attribute(node, "axis", 0)
    if rank is None or not isinstance(along, int):
        return None
    if along % rank != axis:
        return self._clone(node, name, [self.take(node.input[0], axis, indices), *node.input[1:]])
    before = [self._size(part, axis) for part in list(node.output)[: list(node.output).index(name)]]
    if any(size is None for size in before):
        return None
    offset = sum(size for size in before if size is not None)
    return self.take(node.input[0], axis, [offset + i for i in indices])


def _slice(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    if len(node.input) < 3:
        return None
    data, *bounds = node.input
    rank, size = self._rank(data), self._size(data, axis)
    starts, ends, *rest = (self._ints(value) if value else [] for value in bounds)
    if rank is None or size is None or starts is None or ends is None or any(part is None for part in rest):
        return None
    axes = [a % rank for a in (rest[0] if rest and rest[0] else range(len(starts))) or ()]
    steps = (rest[1] if len(rest) > 1 else None) or [1] * len(starts)
    if axis not in axes:
        return self._clone(node, name, [self.take(data, axis, indices), *bounds])
    own = axes.index(axis)
    source = np.arange(size)[starts[own] : ends[own] : steps[own]]
    taken = self.take(data, axis, source[list(indices)].tolist())
    others = [i for i in range(len(axes)) if i != own]
    if not others:
        return taken
    parts = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    constants = [self.constant(np.array([part[i] for i in others]), f"{name}/{key}") for key, part in parts.items()]
    return self._clone(node, name, [taken, *constants])


def _gathering(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    data, which = node.input
    rank, width, along = self._rank(data), self._rank(which), _attribute(node, "axis", 0)
    if rank is None or width is None or not isinstance(along, int):
        return None
    along %= rank
    if along <= axis < along + width:
        chosen, size = self._ints(which), self._size(data, along)
        if width != 1 or chosen is None or size is None:
            return None
        return self.take(data, along, [chosen[i] % size for i in indices])
    return self._clone(node, name, [self.take(data, axis if axis < along else axis - width + 1, indices), which])


def _transposition(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    rank = self._rank(node.input[0])
    if rank is None:
        return None
    order = _attribute(node, "perm", list(reversed(range(rank))))
    assert isinstance(order, list)
    return self._clone(node, name, [self.take(node.input[0], order[axis], indices)])


def _concatenation(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    rank, along = self._rank(name), _attribute(node, "axis", 0)
    if rank is None or not isinstance(along, int):
        return None
    if along % rank != axis:
        return self._clone(node, name, [self.take(part, axis, indices) for part in node.input])
    parts, start = [], 0
    for part in node.input:
        size = self._size(part, axis)
        if size is None or list(indices) != sorted(indices):
            return None
        own = [i - start for i in indices if start <= i < start + size]
        if own:
            parts.append(self.take(part, axis, own))
        start += size
    return parts[0] if len(parts) == 1 else self._clone(node, name, parts)


def _reshape(self: Restriction, node: NodeProto, name: str, axis: int, indices: Indices) -> str | None:
    """Reshape, Flatten, Squeeze and Unsqueeze behind an unchanged batch axis."""
    before, after = self._dims.get(node.input[0]), self._dims.get(name)
    if before is None or after is None or axis == 0:
        return None
    old, new = [n for n in before[1:] if n is not None], [n for n in after[1:] if n is not None]
    # Equal products behind the first axis prove that the first one, the batch, is unchanged.
    if (len(old), len(new)) != (len(before) - 1, len(after) - 1) or not 0 < math.prod(old) == math.prod(new):
        return None
    source = _source(old, new, axis - 1)
    if source is None:
        return None
    own, inner, outer = source
    size, step = new[axis - 1], inner
    taken = [(o * size + i) * step + j for o in range(outer) for i in indices for j in range(inner)]
    new[axis - 1] = len(indices)
    reshaped = NodeProto(op_type="Reshape", output=node.output)
    data = self.take(node.input[0], own + 1, taken)
    return self._clone(reshaped, name, [data, self.constant(np.array([0, *new]), f"{name}/shape")])


def _source(old: list[int], new: list[int], axis: int) -> tuple[int, int, int] | None:
    """The one old axis whose indices decide those of the new `axis`: itself, and the sizes inside and outside of it.

    The old axis o holds the new ones (outer, new[axis], inner), flattened.
    """
    before = after = 1
    for own, size in enumerate(old):
        after = math.prod(old[own + 1 :])
        outside, inside = math.prod(new[:axis]), math.prod(new[axis + 1 :])
        if (
            outside % before == 0
            and inside % after == 0
            and (outside // before) * new[axis] * (inside // after) == size
        ):
            return own, inside // after, outside // before
        before *= size
    return None


_RULES: dict[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "BatchNormalization": _normalisation,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gathering,
    "Transpose": _transposition,
    "Concat": _concatenation,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool"), _pool),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), _reduction),
}
