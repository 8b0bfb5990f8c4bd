"""The contract of an encoder or decoder file: names of heads, metadata key and schema; stdlib only.

An encoder file takes a data set's own samples, `image` (N, H, W, C), and returns `mu` (N, K), or (N, K, h, w) for
spatial latents, and in the same shape either `p` (near 0 = informative), `logvar`, or nothing more (deterministic
codes). A decoder file takes `z` of that shape and returns `image` (N, H, W, C), float32, on the scale that
`InputScale` defines. What else a reader must know is one JSON text under the metadata key `ngvae_tools`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ngvae_tools.errors import ContractError

SCHEMA_VERSION = 1
METADATA_KEY = "ngvae_tools"

IMAGE = "image"
Z = "z"
MU = "mu"
P = "p"
LOGVAR = "logvar"
LATENT_PARAMETERS = "latent_parameters"
"""The one output of diffusers' and optimum's encoders: mu and logvar, concatenated on axis 1."""

Role = Literal["encoder", "decoder"]
Family = Literal["gaussian", "normal-gamma", "normal-gamma-mixture", "deterministic"]
Layout = Literal["NHWC", "NCHW"]
Resize = Literal["stretch", "crop", "pad"]

SAMPLE_TYPES = ("uint8", "uint16", "float32")


@dataclass(frozen=True, slots=True)
class InputScale:
    """How samples become the network's images: clip((sample - low) / (high - low), 0, 1)."""

    low: float = 0.0
    high: float = 255.0


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What an encoder or decoder file says of itself.

    Attributes:
        role: `encoder` or `decoder`.
        family: Law of the posterior, see `ngvae_tools.posteriors`.
        latent_dim: Number K of latent dimensions.
        image_shape: (H, W, C) of one sample.
        sample_type: Type of the samples: uint8, uint16 or float32.
        scale: How samples are scaled; for an encoder this happens inside the graph.
        layout: Order of the image tensor's axes.
        hyperparameters: Numbers of the family, each a scalar or one value a dimension.
        resize: How the training images were brought to `image_shape`, None if they were not.
        data_fingerprint: Fingerprint of the training data, None if unknown.
        weights: SHA-256 of the weights of encoder and decoder together, the same in both files; None if unknown.
        versions: Versions of the libraries that wrote the file.
        kept: Of a pruned model: which dimension of the whole model each of its own is, shape (K,); else None.
    """

    role: Role
    family: Family
    latent_dim: int
    image_shape: tuple[int, int, int]
    sample_type: str = "uint8"
    scale: InputScale = InputScale()
    layout: Layout = "NHWC"
    hyperparameters: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)
    resize: Resize | None = None
    data_fingerprint: str | None = None
    weights: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[int, ...] | None = None

    @property
    def trained(self) -> dict[str, str]:
        """What tells one training from another, by name: `samples`, `data` and `weights`, those that are known."""
        samples = f"{self.sample_type} from {self.scale.low:.12g} to {self.scale.high:.12g}"
        known = {"samples": samples, "data": self.data_fingerprint, "weights": self.weights}
        return {name: value for name, value in known.items() if value is not None}

    def to_json(self) -> str:
        """The metadata as the JSON text that is stored in the file."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelMetadata:
        """Read and check the JSON text of a file.

        Raises:
            ContractError: The text is not JSON, of another schema version, or a field is missing or has
                a value that does not fit.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError):
            raw = None
        if not isinstance(raw, dict):
            raise _malformed("a JSON object", repr(text[:60]))
        version = raw.pop("schema_version", None)
        if type(version) is not int or version != SCHEMA_VERSION:
            raise ContractError(
                "the model file's metadata have another schema",
                expected=f"schema_version {SCHEMA_VERSION}",
                found=repr(version),
                remedy="use the version of ngvae-tools that exported the file, or export it again",
            )
        try:
            return _checked(cls, raw)
        except KeyError as error:
            raise _malformed("the fields of ModelMetadata", f"no field {error}") from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _malformed("the fields of ModelMetadata", str(error)) from None


def _checked(cls: type[ModelMetadata], raw: dict[str, Any]) -> ModelMetadata:
    height, width, channels = (_size("image_shape", n) for n in raw["image_shape"])
    hyperparameters = {
        name: tuple(_number(name, v) for v in value) if isinstance(value, list) else _number(name, value)
        for name, value in raw.get("hyperparameters", {}).items()
    }
    latent_dim = _size("latent_dim", raw["latent_dim"])
    lengths = {len(v) for v in hyperparameters.values() if isinstance(v, tuple)}
    scale = InputScale(**{name: _number(name, value) for name, value in raw.get("scale", {}).items()})
    metadata = cls(
        role=_one_of("role", raw["role"], get_args(Role)),
        family=_one_of("family", raw["family"], get_args(Family)),
        latent_dim=latent_dim,
        image_shape=(height, width, channels),
        sample_type=_one_of("sample_type", raw.get("sample_type", "uint8"), SAMPLE_TYPES),
        scale=scale,
        layout=_one_of("layout", raw.get("layout", "NHWC"), get_args(Layout)),
        hyperparameters=hyperparameters,
        resize=None if raw.get("resize") is None else _one_of("resize", raw["resize"], get_args(Resize)),
        data_fingerprint=_text_or_none("data_fingerprint", raw.get("data_fingerprint")),
        weights=_text_or_none("weights", raw.get("weights")),
        versions={name: _text("versions", value) for name, value in raw.get("versions", {}).items()},
        kept=None if raw.get("kept") is None else tuple(_index("kept", value) for value in raw["kept"]),
    )
    if scale.low == scale.high:
        raise ValueError("low and high of scale must differ")
    if lengths - {latent_dim}:
        raise ValueError(f"hyperparameters must be scalars or have {latent_dim} values")
    if metadata.kept is not None and not len(metadata.kept) == len(set(metadata.kept)) == latent_dim:
        raise ValueError(f"kept must have {latent_dim} different values")
    return metadata


def _size(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number above 0, not {value!r}")
    return value


def _index(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name} must hold whole numbers from 0, not {value!r}")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {value!r}")
    return value


def _text_or_none(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value)


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def _malformed(expected: str, found: str) -> ContractError:
    return ContractError(
        f"the model file's metadata '{METADATA_KEY}' cannot be read",
        expected=expected,
        found=found,
        remedy="export the model again with ngvae_tools' exporters",
    )
