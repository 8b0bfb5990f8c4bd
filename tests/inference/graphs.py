"""Encoders built by hand, whose latents are known in closed form.

mu = A x + b and the second head = C x + c for samples x as float32, flattened. With small whole numbers and powers
of two every sum is exact, whatever its order.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ngvae_tools.contract import METADATA_KEY, ModelMetadata

SHAPE = (6, 5, 3)
TYPES = {"uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "float32": TensorProto.FLOAT}


class Linear:
    """The weights of a linear encoder with K latents for images of `shape`."""

    def __init__(self, latent_dim=3, shape=SHAPE, *, second="p", seed=0, unit=2.0**-8, constant=None):
        rng = np.random.default_rng(seed)
        pixels = int(np.prod(shape))
        self.shape, self.latent_dim, self.second = shape, latent_dim, second
        self.mu_weight = rng.integers(-3, 4, (pixels, latent_dim)) * unit
        self.mu_bias = rng.integers(-8, 9, latent_dim) / 8
        self.second_weight = np.zeros((pixels, latent_dim))
        if constant is None:
            # One pixel decides, so that p stays below 1: sample / 256 times 1, 1/2, 1/4 ...
            for k in range(latent_dim):
                self.second_weight[k % pixels, k] = unit * 2.0 ** -(k % 3)
            constant = 0.0
        self.second_bias = np.broadcast_to(np.asarray(constant, dtype=np.float64), latent_dim)

    def heads(self, images):
        """What the encoder returns for images (N, H, W, C), in float64."""
        flat = np.asarray(images, dtype=np.float64).reshape(len(images), -1)
        return flat @ self.mu_weight + self.mu_bias, flat @ self.second_weight + self.second_bias

    def metadata(self, **changes):
        family = "gaussian" if self.second == "logvar" else "normal-gamma"
        return ModelMetadata(
            **{"role": "encoder", "family": family, "latent_dim": self.latent_dim, "image_shape": self.shape} | changes
        )

    def save(
        self,
        path,
        *,
        metadata="own",
        sample_type="uint8",
        layout="NHWC",
        names=None,
        nan_where_white=False,
        axes=None,
        output_shape=("N", None),
    ):
        """Write the encoder; `metadata` is a text, None, or "own"."""
        height, width, channels = self.shape
        order = np.arange(height * width * channels).reshape(self.shape)
        if layout == "NCHW":
            order = order.transpose(2, 0, 1)
            axes = axes or ("N", channels, height, width)
        axes = axes or ("N", height, width, channels)
        mu, second = names or ("mu", self.second)
        nodes = [
            helper.make_node("Cast", ["image"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["cast"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "A"], ["Ax"]),
            helper.make_node("Add", ["Ax", "b"], ["Axb" if nan_where_white else mu]),
            helper.make_node("MatMul", ["flat", "C"], ["Cx"]),
            helper.make_node("Add", ["Cx", "c"], [second]),
        ]
        if nan_where_white:
            # The square root of a negative number, for the images whose last sample is 255.
            nodes += [
                helper.make_node("Slice", ["flat", "last", "end", "axis"], ["sample"]),
                helper.make_node("Sub", ["limit", "sample"], ["left"]),
                helper.make_node("Sqrt", ["left"], ["root"]),
                helper.make_node("Mul", ["root", "nought"], ["nothing"]),
                helper.make_node("Add", ["Axb", "nothing"], [mu]),
            ]
        columns = order.reshape(-1)
        values = {
            "A": self.mu_weight[columns],
            "b": self.mu_bias,
            "C": self.second_weight[columns],
            "c": self.second_bias,
            "limit": [[254.5]],
            "nought": [[0.0]],
        }
        initializers = [numpy_helper.from_array(np.array(v, dtype=np.float32), name) for name, v in values.items()]
        for name, value in (("last", [-1]), ("end", [2**31]), ("axis", [1])):
            initializers.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
        shape = None if output_shape is None else [output_shape[0], output_shape[1] or self.latent_dim]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (mu, second)]
        inputs = [helper.make_tensor_value_info("image", TYPES[sample_type], axes)]
        graph = helper.make_graph(nodes, "linear", inputs, outputs, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        text = self.metadata(sample_type=sample_type, layout=layout).to_json() if metadata == "own" else metadata
        if text is not None:
            helper.set_model_props(model, {METADATA_KEY: text})
        onnx.save(model, path)
        return path


def images_of(count, shape=SHAPE, *, seed=1, high=255):
    """Random uint8 images; none holds 255 as its last sample."""
    images = np.random.default_rng(seed).integers(0, high, (count, *shape), dtype=np.uint8)
    images[:, -1, -1, -1] %= 200
    return images


def write(
    path, nodes, outputs, *, values=None, axes=("N", 3, 8, 8), elem="float32", metadata=None, shapes=None, opsets=()
):
    """A graph of these nodes with the input `image`; `outputs` are names, their shapes left open unless given."""
    kinds = TYPES | {"float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}
    out_type = {"float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}.get(elem, TensorProto.FLOAT)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (values or {}).items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", kinds[elem], axes)],
        [helper.make_tensor_value_info(name, out_type, (shapes or {}).get(name)) for name in outputs],
        initializers,
    )
    imports = [helper.make_opsetid("", 18), *(helper.make_opsetid(*pair) for pair in opsets)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata})
    path.write_bytes(model.SerializeToString())
    return path


def endless_loop(name, start, condition="true"):
    """A Loop that goes on while `condition`, a scalar from outside, holds; its value comes from `start`."""
    body = helper.make_graph(
        [helper.make_node("Identity", [condition], ["go_on"]), helper.make_node("Sin", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("went_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_node("Loop", ["", condition, start], [name], body=body)


def nodes(*steps):
    """Nodes from (operator, inputs, outputs) with attributes as a fourth part."""
    return [
        helper.make_node(operator, inputs.split(), outputs.split(), **dict(*attributes))
        for operator, inputs, outputs, *attributes in steps
    ]
