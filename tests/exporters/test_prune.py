"""Pruned models compute what whole ones compute; every kind of tail is built by hand."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference.decoders import LinearDecoder, model_of, save
from inference.graphs import Linear, images_of
from onnx import helper

from exporters import prune
from exporters.prune import PruneReport, prune_decoder, prune_encoder
from exporters.restriction import Restriction, restricted, strip
from ngvae_tools.contract import ModelMetadata
from ngvae_tools.errors import ContractError, ExportError, OptionError
from ngvae_tools.files import sha256_of
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.inference.heads import HeadNames
from ngvae_tools.inference.inputs import InputOptions
from ngvae_tools.inference.session import EncoderSession

K = 5
KEPT = (0, 2, 3)
FEATURES = 7


def run(model, feeds, names=None):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(names, feeds)


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


rng = np.random.default_rng(0)
W = rng.normal(size=(FEATURES, 2 * K))
B = rng.normal(size=2 * K)
V = rng.normal(size=(FEATURES, K))
ROW = rng.normal(size=K)
SPLIT = [node("Split", "both", "mu logvar", axis=1, num_outputs=2)]
CONV = {"Wc": rng.normal(size=(2 * K, 3, 1, 1)), "B": B}
BOTH = {"W": W, "B": B}


def ints(*values):
    return np.array(values, dtype=np.int64)


# name: nodes from x (N, 7) or image (N, 3, 4, 6) to mu and logvar, and constants; all of them end in the weights.
TAILS = {
    "Gemm, Split": ([node("Gemm", "x W B", "both"), *SPLIT], BOTH),
    "transposed Gemm": ([node("Gemm", "x Wt B", "both", transB=1), *SPLIT], {"Wt": W.T, "B": B}),
    "scaled Gemm": ([node("Gemm", "x W C", "both", alpha=0.5, beta=2.0), *SPLIT], {"W": W, "C": B[None]}),
    "Gemm, one bias for all": ([node("Gemm", "x W C", "both"), *SPLIT], {"W": W, "C": ints(3).astype(float)}),
    "Gemm without bias": ([node("Gemm", "x W", "both"), *SPLIT], BOTH),
    "unequal Split": (
        [node("Gemm", "x W B", "both"), node("Split", "both sizes", "mu logvar", axis=-1)],
        BOTH | {"sizes": ints(K, K)},
    ),
    "MatMul, Add, Identity": (
        [
            node("MatMul", "x V", "a"),
            node("Add", "row a", "b"),
            node("Identity", "b", "mu"),
            node("Tanh", "b", "logvar"),
        ],
        {"V": V, "row": ROW},
    ),
    "Slice": (
        [
            node("Gemm", "x W B", "both"),
            node("Slice", "both zero five one", "mu"),
            node("Slice", "both minus end one", "logvar"),
        ],
        BOTH | {"zero": ints(0), "five": ints(K), "one": ints(1), "minus": ints(-K), "end": ints(2**40)},
    ),
    "Slice backwards": (
        [
            node("Gemm", "x W B", "both"),
            node("Slice", "both last first one step", "mu"),
            node("Slice", "both zero end one two", "logvar"),
        ],
        BOTH
        | {
            "last": ints(-1),
            "first": ints(K - 1),
            "one": ints(-1),
            "step": ints(-1),
            "zero": ints(0),
            "end": ints(2 * K),
            "two": ints(2),
        },
    ),
    "Gather": (
        [
            node("Gemm", "x W B", "both"),
            node("Gather", "both i", "mu", axis=1),
            node("Gather", "both j", "logvar", axis=-1),
        ],
        BOTH | {"i": ints(*range(0, 10, 2)), "j": ints(-1, 3, 5, 7, 1)},
    ),
    "Reshape, Gather": (
        [
            node("Gemm", "x W B", "both"),
            node("Reshape", "both two", "pair"),
            node("Gather", "pair i", "mu", axis=1),
            node("Gather", "pair j", "logvar", axis=1),
        ],
        BOTH | {"two": ints(-1, 2, K), "i": np.array(0), "j": np.array(1)},
    ),
    "interleaved": (
        [
            node("Gemm", "x W B", "both"),
            node("Reshape", "both pairs", "pair"),
            node("Split", "pair", "m s", axis=2, num_outputs=2),
            node("Squeeze", "m two", "mu"),
            node("Squeeze", "s two", "logvar"),
        ],
        BOTH | {"pairs": ints(0, K, 2), "two": ints(2)},
    ),
    "per-dimension constants": (
        [
            node("MatMul", "x V", "a"),
            node("BatchNormalization", "a row row row square", "n"),
            node("PRelu", "n row", "r"),
            node("Mul", "r row", "mu"),
            node("Clip", "n low high", "c"),
            node("Where", "yes c r", "logvar"),
        ],
        {"V": V, "row": ROW, "square": ROW**2, "low": np.array(-1.0), "high": np.array(1.0), "yes": None},
    ),
    "shared with mu": (
        [node("MatMul", "x V", "mu"), node("Exp", "mu", "e"), node("Neg", "e", "logvar")],
        {"V": V},
    ),
    "whole mu in logvar": (
        [node("MatMul", "x V", "mu"), node("MatMul", "mu S", "logvar")],
        {"V": V, "S": rng.normal(size=(K, K))},
    ),
    "one head a dimension": (
        [
            *(node("MatMul", f"x v{k}", f"m{k}") for k in range(K)),
            node("Concat", " ".join(f"m{k}" for k in range(K)), "mu", axis=1),
            node("Concat", "m0 m0 m1 m1 m2", "logvar", axis=1),
        ],
        {f"v{k}": V[:, k : k + 1] for k in range(K)},
    ),
    "Transpose": (
        [node("MatMul", "Vt xt", "a"), node("Transpose", "a", "mu"), node("Transpose", "a", "logvar", perm=[1, 0])],
        {"Vt": V.T},
    ),
    "Conv 1x1, Split": ([node("Conv", "image Wc B", "both"), *SPLIT], CONV),
    "Conv over everything, Flatten": (
        [node("Conv", "image Wa B", "all"), node("Flatten", "all", "both"), *SPLIT],
        {"Wa": rng.normal(size=(2 * K, 3, 4, 6)), "B": B},
    ),
    "Conv, global pool, Squeeze": (
        [
            node("Conv", "image Wc B", "all"),
            node("Relu", "all", "positive"),
            node("GlobalAveragePool", "positive", "pooled"),
            node("Squeeze", "pooled axes", "both"),
            *SPLIT,
        ],
        CONV | {"axes": ints(2, 3)},
    ),
    "Conv, mean over positions": (
        [node("Conv", "image Wc B", "all"), node("ReduceMean", "all axes", "both", keepdims=0), *SPLIT],
        CONV | {"axes": ints(-1, -2)},
    ),
    "Conv, AveragePool, ConvTranspose": (
        [
            node("Conv", "image Wc B", "all"),
            node("AveragePool", "all", "pooled", kernel_shape=[2, 2], strides=[2, 2]),
            node("ConvTranspose", "pooled Wd", "both", strides=[2, 2]),
            *SPLIT,
        ],
        CONV | {"Wd": rng.normal(size=(2 * K, 2 * K, 2, 2))},
    ),
    "view with the batch from Shape": (
        [
            node("Gemm", "x W B", "both"),
            node("Shape", "both", "sizes"),
            node("Gather", "sizes nought", "n", axis=0),
            node("Concat", "n rest", "target", axis=0),
            node("Reshape", "both target", "pair"),
            node("Split", "pair", "m s", axis=1, num_outputs=2),
            node("Squeeze", "m one", "mu"),
            node("Squeeze", "s one", "logvar"),
        ],
        BOTH | {"nought": ints(0), "rest": ints(2, K), "one": ints(1)},
    ),
}

# The same, where the whole head has to be computed.
WHOLE_TAILS = {
    "Softmax": ([node("MatMul", "x V", "a"), node("Softmax", "a", "mu", axis=1), node("Neg", "a", "logvar")], {"V": V}),
    "CumSum": ([node("MatMul", "x V", "a"), node("CumSum", "a one", "mu"), node("Neg", "a", "logvar")],
        {"V": V, "one": np.array(1)}),
    "the input itself": ([node("Slice", "x zero five one", "mu"), node("Neg", "mu", "logvar")],
        {"zero": ints(0), "five": ints(K), "one": ints(1)}),
    "grouped Conv": (
        [node("Conv", "image Wg", "both", group=3), node("Slice", "both zero five one", "mu"),
            node("Neg", "mu", "logvar")],
        {"Wg": rng.normal(size=(6, 1, 1, 1)), "zero": ints(0), "five": ints(K), "one": ints(1)},
    ),
}  # fmt: skip


def tail(name):
    nodes, values = (TAILS | WHOLE_TAILS)[name]
    values = {key: value for key, value in values.items() if value is not None}
    read = {n for one in nodes for n in one.input}
    front = []
    if "yes" in read:
        front = [node("Greater", "row nil", "yes")]
        values["nil"] = np.array(0.0)
    inputs = {"image": ["N", 3, 4, 6]} if "image" in read else {"x": ["N", FEATURES]}
    if "xt" in read:
        front = [node("Transpose", "x", "xt")]
    spatial = "Conv" in {n.op_type for n in nodes} and ("all" not in read or "Wd" in read)
    shape = ["N", K, 4, 6] if spatial else ["N", K]
    return model_of([*front, *nodes], values, inputs=inputs, outputs={"mu": shape, "logvar": shape})


def feed(model, batch):
    (value,) = model.graph.input
    dims = [d.dim_value for d in value.type.tensor_type.shape.dim[1:]]
    return {value.name: np.random.default_rng(batch).normal(size=(batch, *dims)).astype(np.float32)}


@pytest.mark.parametrize(("kept", "in_weights"), [(KEPT, True), ((4,), True), (KEPT, False)])
@pytest.mark.parametrize("name", [*TAILS, *WHOLE_TAILS])
def test_a_restricted_encoder_computes_the_rows_of_the_whole_one(name, kept, in_weights):
    model = tail(name)
    pruned, found = restricted(model, ["mu", "logvar"], 1, kept, in_weights=in_weights)
    onnx.checker.check_model(pruned, full_check=True)
    assert [value.name for value in pruned.graph.output] == ["mu", "logvar"]
    for batch in (1, 4):
        feeds = feed(model, batch)
        whole, part = run(model, feeds), run(pruned, feeds)
        for full, ours in zip(whole, part, strict=True):
            np.testing.assert_allclose(ours, full[:, list(kept)], rtol=1e-5, atol=1e-6)
    if not in_weights:
        assert not found
    elif name in TAILS:
        assert found
        # The only Gather nodes are those that the tail itself has.
        before, after = (sum(n.op_type == "Gather" for n in m.graph.node) for m in (model, pruned))
        assert after <= before
    else:
        assert not found


# These need K values within: all of mu for logvar, K weights for K heads, K channels below the last layer.
WIDE = {"whole mu in logvar", "one head a dimension", "Conv, AveragePool, ConvTranspose"}


@pytest.mark.parametrize("name", [name for name in TAILS if name not in WIDE])
def test_dropped_dimensions_are_gone_from_the_weights(name):
    model = tail(name)
    pruned, _ = restricted(model, ["mu", "logvar"], 1, (3,), in_weights=True)
    assert not [t.name for t in pruned.graph.initializer if set(t.dims) & {K, 2 * K}]
    assert not pruned.graph.value_info


def test_every_dimension_leaves_the_nodes_as_they_are():
    model = tail("Gemm, Split")
    pruned, found = restricted(model, ["mu", "logvar"], 1, range(K), in_weights=True)
    assert found
    assert [n.op_type for n in pruned.graph.node] == ["Gemm", "Split"]
    assert pruned.graph.initializer == model.graph.initializer


def test_a_chain_that_is_too_long_is_cut_by_a_gather():
    nodes = [node("MatMul", "x V", "a0"), *(node("Neg", f"a{i}", f"a{i + 1}") for i in range(300))]
    nodes += [node("Identity", "a300", "mu")]
    model = model_of(nodes, {"V": V}, inputs={"x": ["N", FEATURES]}, outputs={"mu": ["N", K]})
    pruned, found = restricted(model, ["mu"], 1, KEPT, in_weights=True)
    assert not found
    feeds = feed(model, 3)
    np.testing.assert_allclose(run(pruned, feeds)[0], run(model, feeds)[0][:, KEPT], rtol=1e-6)


def test_what_a_subgraph_reads_is_kept():
    branches = {}
    for branch, kind in (("then_branch", "Identity"), ("else_branch", "Neg")):
        value = helper.make_tensor_value_info(branch, 1, ["N", K])
        branches[branch] = helper.make_graph([node(kind, "mu", branch)], branch, [], [value])
    nodes = [
        node("MatMul", "x V", "mu"),
        node("ReduceSum", "mu", "sum", keepdims=0),
        node("Greater", "sum nil", "yes"),
        helper.make_node("If", ["yes"], ["logvar"], **branches),
    ]
    values = {"V": V, "nil": np.array(0.0)}
    model = model_of(nodes, values, inputs={"x": ["N", FEATURES]}, outputs={"mu": ["N", K], "logvar": ["N", K]})
    pruned, found = restricted(model, ["mu", "logvar"], 1, KEPT, in_weights=True)
    onnx.checker.check_model(pruned, full_check=True)
    assert not found
    for seed in range(6):
        feeds = feed(model, seed + 1)
        for full, ours in zip(run(model, feeds), run(pruned, feeds), strict=True):
            np.testing.assert_allclose(ours, full[:, KEPT], rtol=1e-5)


@st.composite
def reshapes(draw):
    """Two factorisations of one size into axes."""
    primes = draw(st.lists(st.sampled_from([1, 2, 2, 3, 5]), min_size=1, max_size=4))

    def grouped():
        cuts = draw(st.lists(st.booleans(), min_size=len(primes) - 1, max_size=len(primes) - 1))
        sizes = [primes[0]]
        for prime, cut in zip(primes[1:], cuts, strict=True):
            sizes = [*sizes, prime] if cut else [*sizes[:-1], sizes[-1] * prime]
        return sizes

    return grouped(), grouped()


@settings(deadline=None, max_examples=60)
@given(reshapes(), st.data())
def test_indices_find_their_way_through_any_reshape(shapes, data):
    old, new = shapes
    axis = data.draw(st.integers(0, len(new) - 1))
    kept = sorted(data.draw(st.sets(st.integers(0, new[axis] - 1), min_size=1)))
    model = model_of(
        [node("Reshape", "x shape", "y")],
        {"shape": ints(-1, *new)},
        inputs={"x": ["N", *old]},
        outputs={"y": ["N", *new]},
    )
    restriction = Restriction(model)
    name = restriction.take("y", axis + 1, kept)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    strip(model.graph)
    x = np.arange(2 * int(np.prod(old)), dtype=np.float32).reshape(2, *old)
    expected = np.take(x.reshape(2, *new), kept, axis + 1)
    found = x if name == "x" else run(model, {"x": x})[0]
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_an_encoder_of_the_contract(tmp_path):
    linear = Linear(5)
    path = linear.save(tmp_path / "e.onnx")
    report = prune_encoder(path, [3, 0, 2], tmp_path / "p.onnx")
    assert report == PruneReport(
        tmp_path / "p.onnx",
        sha256_of(tmp_path / "p.onnx"),
        (tmp_path / "p.onnx").stat().st_size,
        path.stat().st_size,
        KEPT,
        5,
        in_weights=True,
        max_abs_difference=0.0,
    )
    assert report.bytes < report.bytes_before
    session = EncoderSession(tmp_path / "p.onnx")
    images = images_of(9)
    mu, p = linear.heads(images)
    heads = session.encode(images)
    np.testing.assert_array_equal(heads.mu, mu[:, KEPT].astype(np.float32))
    np.testing.assert_array_equal(heads.second, p[:, KEPT].astype(np.float32))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["e.onnx", "p.onnx"]


def test_metadata_follow_the_dimensions(pytestconfig, tmp_path):
    path = pytestconfig.rootpath / "sample_data" / "encoder.onnx"
    report = prune_encoder(path, (1, 3), tmp_path / "p.onnx")
    before, after = EncoderSession(path).metadata, EncoderSession(report.path).metadata
    expected = dict(before.hyperparameters)
    for name in ("informative_beta", "prior_weight"):
        expected[name] = (expected[name][1], expected[name][3])
    assert after == dataclasses.replace(before, latent_dim=2, hyperparameters=expected, kept=(1, 3))
    assert report.in_weights
    assert report.max_abs_difference < 1e-6


def test_what_is_pruned_again_names_the_dimensions_of_the_first_model(tmp_path):
    first = prune_encoder(Linear(5).save(tmp_path / "e.onnx"), (0, 2, 3, 4), tmp_path / "p.onnx")
    second = prune_encoder(first.path, (1, 3), tmp_path / "q.onnx")
    assert EncoderSession(second.path).metadata.kept == (2, 4)


def test_the_same_bytes_each_time(pytestconfig, tmp_path):
    path = pytestconfig.rootpath / "sample_data" / "encoder.onnx"
    first, second = (prune_encoder(path, (1, 3), tmp_path / name) for name in ("a.onnx", "b.onnx"))
    assert first.sha256 == second.sha256


def test_an_encoder_from_elsewhere(tmp_path):
    linear = Linear(5, second="logvar")
    path = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32", layout="NCHW", names=("m", "s"))
    names = HeadNames(mu="m", logvar="s")
    report = prune_encoder(path, KEPT, tmp_path / "p.onnx", heads=names)
    images = images_of(4).astype(np.float32)
    mu, logvar = linear.heads(images)
    assert [value.name for value in onnx.load(report.path).graph.output] == ["mu", "logvar"]
    assert report.input_options == InputOptions()
    heads = EncoderSession(report.path).encode(images)
    np.testing.assert_array_equal(heads.mu, mu[:, KEPT].astype(np.float32))
    np.testing.assert_array_equal(heads.second, logvar[:, KEPT].astype(np.float32))


@pytest.mark.parametrize(
    ("names", "heads", "found"),
    [
        (("logvar", "mu"), HeadNames(mu="logvar", logvar="mu"), ["mu", "logvar"]),
        (("code", "flat"), HeadNames(mu="code", p="flat"), ["mu", "p"]),
        (("code", "mu"), HeadNames(mu="code"), ["mu"]),
        (("Ax", "mu"), HeadNames(mu="mu", logvar="Ax"), ["mu", "logvar"]),
    ],
)
def test_names_that_other_tensors_have_are_freed_for_the_heads(tmp_path, names, heads, found):
    linear = Linear(5, second="logvar")
    path = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32", names=("first", "second"))
    model = onnx.load(path)
    swap = {"first": names[0], "second": names[1], **({"Ax": "inner"} if "Ax" in names else {}), "flat": "line"}
    for side in [model.graph.output, *(part for n in model.graph.node for part in (n.input, n.output))]:
        for i, entry in enumerate(side):
            if isinstance(entry, str):
                side[i] = swap.get(entry, entry)
            else:
                entry.name = swap.get(entry.name, entry.name)
    model.graph.input[0].name = model.graph.node[0].input[0] = "p"
    onnx.save(model, path)
    report = prune_encoder(path, KEPT, tmp_path / "p.onnx", heads=heads)
    assert [value.name for value in onnx.load(report.path).graph.output] == found
    images = images_of(4).astype(np.float32)
    whole, part = EncoderSession(path, heads=heads).encode(images), EncoderSession(report.path).encode(images)
    np.testing.assert_array_equal(part.mu, whole.mu[:, KEPT])
    if len(found) > 1:
        np.testing.assert_array_equal(part.second, whole.second[:, KEPT])


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("shape", [(6, 5, 3), (8, 8, 8)])
def test_what_a_reader_of_the_pruned_encoder_must_be_told(tmp_path, limits, shape):
    linear = Linear(5, shape, second="logvar")
    path = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32", names=("m", "s"))
    told = InputOptions("NHWC", *limits)
    names = HeadNames(mu="m", logvar="s")
    report = prune_encoder(path, KEPT, tmp_path / "p.onnx", heads=names, input_options=told)
    layout = None if shape == (6, 5, 3) else "NHWC"
    assert report.input_options == InputOptions(layout, *(limits if limits[0] else (None, None)))
    images = images_of(4, shape)
    whole = EncoderSession(path, heads=names, input_options=told).encode(images)
    part = EncoderSession(report.path, input_options=report.input_options).encode(images)
    np.testing.assert_array_equal(part.mu, whole.mu[:, KEPT])


def test_one_output_under_another_name_is_still_one_output(tmp_path):
    nodes = [node("Conv", "sample Wc B", "all"), node("ReduceMean", "all axes", "moments", keepdims=0)]
    ports = {"inputs": {"sample": ["N", 3, 4, 6]}, "outputs": {"moments": ["N", 2 * K]}}
    path = save(tmp_path / "e.onnx", nodes, CONV | {"axes": ints(2, 3)}, **ports)
    names = HeadNames(mu="moments", logvar="moments")
    report = prune_encoder(path, KEPT, tmp_path / "p.onnx", heads=names)
    # diffusers' name would stand for the range from -1 to 1.
    assert report.input_options == InputOptions(None, 0.0, 1.0)
    images = np.random.default_rng(0).integers(0, 255, (3, 4, 6, 3), dtype=np.uint8)
    whole = EncoderSession(path, heads=names).encode(images)
    part = EncoderSession(report.path, input_options=report.input_options).encode(images)
    np.testing.assert_allclose(part.mu, whole.mu[:, KEPT], atol=1e-6)
    np.testing.assert_allclose(part.second, whole.second[:, KEPT], atol=1e-6)


@pytest.mark.parametrize("positions", [[], [4, 6]])
def test_mean_and_log_variance_in_one_output(tmp_path, positions):
    nodes = [node("Conv", "sample Wc B", "latent_parameters" if positions else "all")]
    values = CONV
    if not positions:
        nodes += [node("ReduceMean", "all axes", "latent_parameters", keepdims=0)]
        values = CONV | {"axes": ints(2, 3)}
    ports = {"inputs": {"sample": ["N", 3, 4, 6]}, "outputs": {"latent_parameters": ["N", 2 * K, *positions]}}
    path = save(tmp_path / "e.onnx", nodes, values, **ports)
    report = prune_encoder(path, KEPT, tmp_path / "p.onnx")
    assert report.in_weights
    images = np.random.default_rng(0).uniform(0, 1, (3, 4, 6, 3)).astype(np.float32)
    whole, part = (EncoderSession(file).encode(images) for file in (path, report.path))
    np.testing.assert_allclose(part.mu, whole.mu[:, KEPT], atol=1e-6)
    np.testing.assert_allclose(part.second, whole.second[:, KEPT], atol=1e-6)


def test_channels_in_the_last_axis(tmp_path):
    nodes = [
        node("Transpose", "image", "first", perm=[0, 3, 1, 2]),
        node("Conv", "first Wc B", "both"),
        node("Split", "both", "m s", axis=1, num_outputs=2),
        node("Transpose", "m", "mu", perm=[0, 2, 3, 1]),
        node("Transpose", "s", "logvar", perm=[0, 2, 3, 1]),
    ]
    shape = ["N", 6, 7, K]
    ports = {"inputs": {"image": ["N", 6, 7, 3]}, "outputs": {"mu": shape, "logvar": shape}}
    path = save(tmp_path / "e.onnx", nodes, CONV, **ports)
    report = prune_encoder(path, KEPT, tmp_path / "p.onnx")
    assert report.in_weights
    images = np.random.default_rng(0).uniform(0, 1, (3, 6, 7, 3)).astype(np.float32)
    whole, part = (EncoderSession(file).encode(images) for file in (path, report.path))
    np.testing.assert_allclose(part.mu, whole.mu[:, KEPT], atol=1e-6)


def test_other_outputs_and_what_computes_them_are_dropped(tmp_path):
    model = tail("Conv over everything, Flatten")
    model.graph.node.append(node("Reshape", "mu shape", "reconstruction"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(ints(-1, K), "shape"))
    model.graph.output.append(helper.make_tensor_value_info("reconstruction", 1, ["N", K]))
    onnx.save(model, tmp_path / "e.onnx")
    prune_encoder(tmp_path / "e.onnx", KEPT, tmp_path / "p.onnx")
    pruned = onnx.load(tmp_path / "p.onnx")
    assert [value.name for value in pruned.graph.output] == ["mu", "logvar"]
    assert "shape" not in {tensor.name for tensor in pruned.graph.initializer}


@pytest.mark.parametrize("dimensions", [(), (0, 0), (5,), (-1,)])
def test_dimensions_that_are_none(tmp_path, dimensions):
    path = Linear(5).save(tmp_path / "e.onnx")
    with pytest.raises(OptionError, match="at least one of 0 to 4, each once"):
        prune_encoder(path, dimensions, tmp_path / "p.onnx")
    assert not (tmp_path / "p.onnx").exists()


def test_a_model_that_agrees_in_no_way_is_not_written(tmp_path, monkeypatch):
    path = Linear(5).save(tmp_path / "e.onnx")
    (tmp_path / "p.onnx").write_text("old")
    own = prune.restricted

    def wrong(model, names, axis, rows, **options):
        return own(model, names, axis, [0] * len(rows), **options)

    monkeypatch.setattr(prune, "restricted", wrong)
    with pytest.raises(ExportError, match=r"the pruned e\.onnx does not compute what the whole model computes"):
        prune_encoder(path, KEPT, tmp_path / "p.onnx")
    assert (tmp_path / "p.onnx").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_where_the_weights_round_otherwise_the_whole_head_is_computed(tmp_path, monkeypatch):
    path = Linear(5).save(tmp_path / "e.onnx")
    take = Restriction.take

    def off(self, name, axis, rows):
        return take(self, name, axis, [rows[0]] * len(rows))

    monkeypatch.setattr(Restriction, "take", off)
    report = prune_encoder(path, KEPT, tmp_path / "p.onnx")
    assert not report.in_weights
    assert report.max_abs_difference == 0


def test_a_decoder_is_no_encoder(tmp_path):
    path = LinearDecoder().save(tmp_path / "d.onnx")
    with pytest.raises(ContractError, match="an encoder, found a decoder"):
        prune_encoder(path, [0], tmp_path / "p.onnx")
    path = Linear(3).save(tmp_path / "e.onnx")
    with pytest.raises(ContractError, match="a decoder, found an encoder"):
        prune_decoder(path, [0], [0.0] * 3, tmp_path / "p.onnx")


MEAN = rng.normal(size=K)
W1 = rng.normal(size=(K, 90))
B1 = rng.normal(size=90)
IMAGE = [node("Reshape", "values shape", "image")]
SHAPE = {"shape": ints(0, 6, 5, 3)}
FRONTS = {
    "Gemm": ([node("Gemm", "z W B", "values"), *IMAGE], {"W": W1, "B": B1}),
    "scaled, transposed Gemm": (
        [node("Gemm", "z W B", "values", transB=1, alpha=0.5, beta=3.0), *IMAGE],
        {"W": W1.T, "B": B1[None]},
    ),
    "Gemm without bias": ([node("Gemm", "z W", "values"), *IMAGE], {"W": W1}),
    "Gemm, one bias for all": ([node("Gemm", "z W B", "values"), *IMAGE], {"W": W1, "B": np.array([2.0])}),
    "MatMul, Add": ([node("MatMul", "z W", "a"), node("Add", "a B", "values"), *IMAGE], {"W": W1, "B": B1}),
}
UNFOLDED = {
    "two readers": (
        [node("Gemm", "z W B", "a"), node("MatMul", "z W", "b"), node("Add", "a b", "values"), *IMAGE],
        {"W": W1, "B": B1},
    ),
    "nonlinear": ([node("Tanh", "z", "t"), node("Gemm", "t W B", "values"), *IMAGE], {"W": W1, "B": B1}),
    "bias from elsewhere": (
        [node("Identity", "B", "C"), node("Gemm", "z W C", "values"), *IMAGE],
        {"W": W1, "B": B1},
    ),
}
SPATIAL = {
    "Conv 1x1": ([node("Conv", "z Wc Bc", "image")], {"Wc": rng.normal(size=(3, K, 1, 1)), "Bc": rng.normal(size=3)}),
    "Conv 3x3": ([node("Conv", "z Wc", "image", pads=[1] * 4)], {"Wc": rng.normal(size=(3, K, 3, 3))}),
    "padded Conv 1x1": (
        [node("Conv", "z Wc", "padded", pads=[0, 0, 1, 1]), node("Slice", "padded zero end axes", "image")],
        {"Wc": rng.normal(size=(3, K, 1, 1)), "zero": ints(1, 1), "end": ints(7, 6), "axes": ints(2, 3)},
    ),
    "MatMul of the columns": (
        [node("MatMul", "z Ww", "mixed"), node("Conv", "mixed Wc", "image")],
        {"Ww": rng.normal(size=(5, 5)), "Wc": rng.normal(size=(3, K, 1, 1))},
    ),
}


@pytest.mark.parametrize("name", [*FRONTS, *UNFOLDED, *SPATIAL])
def test_a_narrow_decoder_computes_what_the_whole_one_does_at_the_means(tmp_path, name):
    kept = KEPT
    nodes, values = (FRONTS | UNFOLDED | SPATIAL)[name]
    positions = [6, 5] if name in SPATIAL else []
    image = ["N", 3, 6, 5] if positions else ["N", 6, 5, 3]
    constants = values if positions else values | SHAPE
    path = save(tmp_path / "d.onnx", nodes, constants, inputs={"z": ["N", K, *positions]}, outputs={"image": image})
    report = prune_decoder(path, kept, MEAN.tolist(), tmp_path / "p.onnx")
    assert report.in_weights == (name in FRONTS or name == "Conv 1x1")
    assert (report.dimensions, report.latent_dim_before) == (kept, K)
    pruned = onnx.load(tmp_path / "p.onnx")
    onnx.checker.check_model(pruned, full_check=True)
    z = np.random.default_rng(3).normal(size=(4, K, *positions)).astype(np.float32)
    held = np.broadcast_to(MEAN.astype(np.float32).reshape(-1, *(1 for _ in positions)), z.shape).copy()
    held[:, list(kept)] = z[:, list(kept)]
    full = run(onnx.load(path), {"z": held})[0]
    np.testing.assert_allclose(run(pruned, {"z": z[:, list(kept)]})[0], full, rtol=1e-5, atol=1e-5)
    if report.in_weights:
        assert not [t.name for t in pruned.graph.initializer if K in t.dims]


def test_the_sample_decoder(pytestconfig, tmp_path):
    path = pytestconfig.rootpath / "sample_data" / "decoder.onnx"
    report = prune_decoder(path, (1, 3, 5), [0.1] * 15, tmp_path / "p.onnx")
    assert report.in_weights
    assert report.bytes < report.bytes_before == path.stat().st_size
    text = next(entry.value for entry in onnx.load(report.path).metadata_props if entry.key == "ngvae_tools")
    metadata = ModelMetadata.from_json(text)
    assert (metadata.role, metadata.latent_dim) == ("decoder", 3)
    assert len(metadata.hyperparameters["informative_beta"]) == 3


@pytest.mark.parametrize("name", ["Gemm", "nonlinear"])
def test_a_decoder_of_a_fixed_batch(tmp_path, name):
    nodes, values = (FRONTS | UNFOLDED)[name]
    ports = {"inputs": {"z": [4, K]}, "outputs": {"image": [4, 6, 5, 3]}}
    path = save(tmp_path / "d.onnx", nodes, values | SHAPE, **ports)
    report = prune_decoder(path, KEPT, MEAN.tolist(), tmp_path / "p.onnx")
    z = np.tile(MEAN.astype(np.float32), (6, 1))
    z[:, KEPT] = np.random.default_rng(0).normal(size=(6, 3))
    images = DecoderSession(report.path).decode(z[:, KEPT])
    np.testing.assert_allclose(images, DecoderSession(path).decode(z), rtol=1e-5, atol=1e-5)


def test_a_decoder_with_every_dimension_stays_as_it_is(tmp_path):
    linear = LinearDecoder()
    report = prune_decoder(linear.save(tmp_path / "d.onnx"), (0, 1, 2), [0.0] * 3, tmp_path / "p.onnx")
    assert report.max_abs_difference == 0
    assert report.in_weights


def test_means_of_another_decoder(tmp_path):
    path = LinearDecoder().save(tmp_path / "d.onnx")
    with pytest.raises(ContractError, match="does not fit the selection: expected 4 latent dimensions, found 3"):
        prune_decoder(path, (0,), [0.0] * 4, tmp_path / "p.onnx")


def test_weights_beside_the_file_come_into_it(tmp_path):
    linear = Linear(5)
    model = onnx.load(linear.save(tmp_path / "one.onnx"))
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=0)
    report = prune_encoder(tmp_path / "e.onnx", KEPT, tmp_path / "elsewhere" / "p.onnx")
    images = images_of(3)
    heads = EncoderSession(report.path).encode(images)
    np.testing.assert_array_equal(heads.mu, linear.heads(images)[0][:, KEPT].astype(np.float32))


def test_old_files_that_list_weights_as_inputs(tmp_path):
    linear = Linear(5)
    model = onnx.load(linear.save(tmp_path / "e.onnx"))
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    )
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 18))
    onnx.save(model, tmp_path / "e.onnx")
    report = prune_encoder(tmp_path / "e.onnx", KEPT, tmp_path / "p.onnx")
    assert [value.name for value in onnx.load(report.path).graph.input] == ["image"]
