"""Decoders built by hand: image = z W + b, as ONNX files of the contract or from elsewhere."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ngvae_tools.contract import METADATA_KEY, ModelMetadata

FLOAT = TensorProto.FLOAT


class LinearDecoder:
    """Images of `shape` (H, W, C) from K latents; the columns of `weight` are orthogonal with the lengths given."""

    def __init__(self, lengths=(2.0, 1.0, 0.5), shape=(6, 5, 3), *, seed=0):
        pixels = int(np.prod(shape))
        directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(pixels, len(lengths))))[0].T
        self.shape, self.latent_dim = shape, len(lengths)
        self.weight = (directions * np.asarray(lengths)[:, None]).astype(np.float32)
        self.bias = np.full(pixels, 0.5, dtype=np.float32)

    def __call__(self, z):
        return (z @ self.weight + self.bias).reshape(-1, *self.shape).astype(np.float32)

    def metadata(self, **changes):
        own = {"role": "decoder", "family": "gaussian", "latent_dim": self.latent_dim, "image_shape": self.shape}
        return ModelMetadata(**own | changes)

    def save(self, path, *, metadata="own", layout="NHWC", axes=None, gain=1.0, offset=0.0, extra=()):
        """Write the decoder; its images are `gain` times what they are, plus `offset`."""
        height, width, channels = self.shape
        order = np.arange(height * width * channels).reshape(self.shape)
        order = order.transpose(2, 0, 1) if layout == "NCHW" else order
        shape = order.shape
        nodes = [
            helper.make_node("Flatten", ["z"], ["flat"]),
            helper.make_node("Gemm", ["flat" if axes else "z", "W", "b"], ["values"]),
            helper.make_node("Reshape", ["values", "shape"], ["image" if not extra else "whole"]),
            *extra,
        ]
        columns = order.reshape(-1)
        values = {
            "W": self.weight[:, columns] * np.float32(gain),
            "b": self.bias[columns] * np.float32(gain) + np.float32(offset),
            "shape": np.array([0, *shape], dtype=np.int64),
        }
        text = self.metadata().to_json() if metadata == "own" else metadata
        return save(
            path,
            nodes if axes else nodes[1:],
            values,
            inputs={"z": ["N", *(axes or [self.latent_dim])]},
            outputs={"image": ["N", *shape]},
            metadata=text,
        )


def save(path, nodes, values, *, inputs, outputs, metadata=None, opset=18):
    """Write a model of float32 inputs and outputs, given as name: shape."""
    onnx.save(model_of(nodes, values, inputs=inputs, outputs=outputs, metadata=metadata, opset=opset), path)
    return path


def model_of(nodes, values, *, inputs, outputs, metadata=None, opset=18):
    initializers = [
        numpy_helper.from_array(np.asarray(v, dtype=None if np.asarray(v).dtype.kind == "i" else np.float32), name)
        for name, v in values.items()
    ]
    ports = [
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "by hand", *ports, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    if metadata is not None:
        helper.set_model_props(model, {METADATA_KEY: metadata})
    return model
