"""An ONNX file from wherever, read without trusting it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ngvae_tools.errors import ContractError


def read_onnx(path: Path) -> bytes:
    """The bytes of an ONNX file that stands alone.

    Raises:
        ContractError: There is no file, it is not ONNX, or its weights lie in other files.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unfit(path, "an ONNX file", error.strerror or str(error), "check the path") from None
    _refuse_foreign_files(path, data)
    return data


def unfit(path: Path, expected: str, found: str, remedy: str) -> ContractError:
    """The error of a file that cannot be used as an encoder."""
    return ContractError(f"{path} cannot be used as an encoder", expected=expected, found=found, remedy=remedy)


def _refuse_foreign_files(path: Path, data: bytes) -> None:
    """Models from elsewhere can name any file of this machine as their weights; take single files only."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import uses_external_data

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        model = onnx.ModelProto()
    if not model.graph.node:
        start = f"{len(data)} bytes that start with {data[:8]!r}"
        raise unfit(path, "an ONNX file", start, "name the .onnx file that an exporter wrote")
    if any(uses_external_data(tensor) for tensor in _tensors(model)):
        raise unfit(
            path,
            "an ONNX model in one file",
            "weights in another file",
            "save it as one file: onnx.save(onnx.load(path), path)",
        )


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of a model: initializers, sparse ones, those of constants, in subgraphs and functions too."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if isinstance(value, Sequence) else [value]:
            if part.DESCRIPTOR.name == "TensorProto":
                yield part
            else:
                yield from _tensors(part)
