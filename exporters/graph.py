"""A torch module as one ONNX graph with a dynamic batch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor, nn

from ngvae_tools.errors import ExportError

OPSET = 18


def graph_of(module: nn.Module, example: Tensor, input_name: str, output_names: tuple[str, ...]) -> onnx.ModelProto:
    """The module as ONNX, stripped of what depends on where it was made.

    Args:
        module: Takes one tensor and returns as many tensors as there are output names.
        example: A batch of at least two; its first axis becomes dynamic.
        input_name: Name of the graph's input.
        output_names: Names of the graph's outputs.

    Raises:
        ExportError: torch cannot write the module as a graph, or only for one size of batch.
    """
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=list(output_names),
                dynamic_shapes=({0: batch},),
                verbose=False,
            )
        except Exception as error:
            raise ExportError(
                "torch cannot write this module as ONNX",
                expected="a module without decisions on values, that takes any number of images",
                found=first_line(error),
                remedy="correct the module, or write the ONNX file by other means",
            ) from error
    assert program is not None
    model = program.model_proto
    # Stack traces name files of the machine that exported, and make equal models differ.
    del model.metadata_props[:]
    for part in (
        model.graph,
        *model.graph.node,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
    ):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    for value in model.graph.value_info:
        del value.metadata_props[:]
    return model


def first_line(error: BaseException) -> str:
    """Type and first line of the error that caused all others."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from writing its progress and its own deprecation warnings to the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
