"""An ONNX file from wherever, read without trusting it."""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ngvae_tools.errors import ContractError

MAX_BYTES = 2**31 - 1
"""Largest model, its weights included: protobuf cannot hold more in one message."""


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A model that was read whole.

    Attributes:
        proto: The model, weights from other files put into it.
        sha256: Hash of the file's bytes and, where weights lie in other files, of their bytes in order of use.
        external_bytes: Bytes of weights that lay in other files.
    """

    proto: Any
    sha256: str
    external_bytes: int


def unfit(path: Path, expected: str, found: str, remedy: str) -> ContractError:
    """The error of a file that cannot be used as an encoder."""
    return ContractError(f"{path} cannot be used as an encoder", expected=expected, found=found, remedy=remedy)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ContractError: There is no regular file that can be read, or it is too large for ONNX.
    """
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
            return path.read_bytes()
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise unfit(path, "an ONNX file", found, "check the path") from None
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "something that is not a file"
        raise unfit(path, "an ONNX file", what, "check the path")
    raise unfit(path, "an ONNX file below 2 GiB", f"{status.st_size} bytes", "name the .onnx file")


def read_model(path: Path, data: bytes) -> OnnxModel:
    """The model in a file's bytes; weights beside the file are put into it, those elsewhere refused.

    Raises:
        ContractError: It is not ONNX, or names weights that lie outside the model's folder or are not there.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        model = onnx.ModelProto()
    if not model.graph.node:
        start = f"{len(data)} bytes that start with {data[:8]!r}" if data else "an empty file"
        raise unfit(path, "an ONNX file", start, "name the .onnx file that an exporter wrote")
    digest = hashlib.sha256(data)
    total = 0
    for tensor in tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        file, offset, length = _external(path, tensor)
        total += length
        if len(data) + total > MAX_BYTES:
            raise unfit(path, "a model below 2 GiB, its weights included", "a larger one", "export it in float16")
        with file.open("rb") as weights:
            weights.seek(offset)
            tensor.raw_data = weights.read(length)
        digest.update(tensor.raw_data)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    return OnnxModel(model, digest.hexdigest(), total)


def tensors(message: Any) -> Iterator[Any]:
    """Every tensor of a model: initializers, sparse ones, those of constants, in subgraphs and functions too."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if isinstance(value, Sequence) else [value]:
            if part.DESCRIPTOR.name == "TensorProto":
                yield part
            else:
                yield from tensors(part)


def parameters(model: Any) -> int:
    """Number of floating-point values among a model's tensors."""
    from onnx import TensorProto

    floating = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    return sum(math.prod(tensor.dims) for tensor in tensors(model) if tensor.data_type in floating)


def _external(path: Path, tensor: Any) -> tuple[Path, int, int]:
    """File, offset and length of a tensor's weights, refused unless they lie below the model's own folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")

    def refused(found: str) -> ContractError:
        return unfit(
            path,
            "weights in the model's own folder",
            f"{found} {location[:200]!r}",
            "put the weights' file beside the model, or save it as one file: onnx.save(onnx.load(path), path)",
        )

    named = PureWindowsPath(location)
    if not location or "\0" in location or PurePosixPath(location).is_absolute() or named.anchor or ".." in named.parts:
        raise refused("weights in another place,")
    folder = path.parent.resolve()
    try:
        file = (folder / location).resolve(strict=True)
        status = file.stat()
    except (OSError, RuntimeError) as error:
        raise refused(f"no file of weights ({getattr(error, 'strerror', None) or error}),") from None
    if not file.is_relative_to(folder):
        raise refused("a link that leaves the folder,")
    if not stat.S_ISREG(status.st_mode):
        raise refused("something that is not a file,")
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", status.st_size - offset))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > status.st_size:
        raise refused(f"weights beyond the {status.st_size} bytes of")
    return file, offset, length
