"""What an ONNX file says of itself, as the trial reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Shape = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        type: onnxruntime's name of its type, such as `tensor(float)`.
        shape: Its axes; a name or None where an axis is dynamic; empty for a scalar or where nothing is said.
    """

    name: str
    type: str
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name} {shape_text(self.shape)}"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """An ONNX file as it was found.

    Attributes:
        sha256: Hash of the file's bytes and of those of its external weights.
        bytes: Size of the file.
        external_bytes: Bytes of weights in other files.
        opset: Version of the standard operators; None where the file names none.
        producer: What wrote it.
        operators: How often each operator occurs.
        parameters: Number of floating-point weights.
        inputs: What it takes.
        outputs: What it returns.
        metadata: Its metadata, texts of any key.
    """

    sha256: str
    bytes: int
    external_bytes: int
    opset: int | None
    producer: str
    operators: Mapping[str, int]
    parameters: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: Mapping[str, str]

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> ModelFacts:
        """The facts in a report of the trial."""
        ports = {
            side: tuple(Port(name, kind, tuple(shape)) for name, kind, shape in raw[side])
            for side in ("inputs", "outputs")
        }
        return cls(**raw | ports)


@dataclass(frozen=True, slots=True)
class OutputTrial:
    """What one output was like when the trial ran the model.

    Attributes:
        dtype: numpy's name of its type.
        first: Shape for the first batch.
        second: Shape for the second batch.
        finite: Whether any of the images had finite values only.
        low: Least finite value; None without one.
        high: Largest finite value; None without one.
        varies: Whether two runs on the same images differed.
        mixes: Whether an image's values depended on the others of its batch.
    """

    dtype: str
    first: tuple[int, ...]
    second: tuple[int, ...]
    finite: bool
    low: float | None
    high: float | None
    varies: bool
    mixes: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the trial found when it ran the model.

    Attributes:
        batches: Images of the first and the second batch; equal where the batch is fixed.
        outputs: The outputs that were asked for, by name.
        seconds_per_image: What one image took, in seconds.
        bytes_per_image: Memory that one more image of a batch took; 0 where the system does not tell.
        second_error: Why the second, larger batch could not be run; None where it could.
    """

    batches: tuple[int, int]
    outputs: Mapping[str, OutputTrial]
    seconds_per_image: float
    bytes_per_image: int
    second_error: str | None

    def of_one(self) -> Outcome:
        """The same, the second batch forgotten."""
        outputs = {name: replace(output, second=output.first, mixes=False) for name, output in self.outputs.items()}
        return replace(self, batches=(self.batches[0],) * 2, outputs=outputs)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Outcome:
        """The outcome in a report of the trial."""
        outputs = {
            name: OutputTrial(**value | {"first": tuple(value["first"]), "second": tuple(value["second"])})
            for name, value in raw["outputs"].items()
        }
        return cls(**raw | {"batches": tuple(raw["batches"]), "outputs": outputs})


def shape_text(shape: Shape | list[Any]) -> str:
    """`(N, 64, 64, 3)`."""
    return "(" + ", ".join("?" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
