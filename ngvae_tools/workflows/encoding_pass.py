"""What one pass of a data set through an encoder is: all that its shards, and what is made of them, depend on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngvae_tools.datasets import ImageDataset
from ngvae_tools.errors import RecordError
from ngvae_tools.files import write_text
from ngvae_tools.inference.providers import CPU
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions
from ngvae_tools.inference.shards import ShardPlan, ShardSettings
from ngvae_tools.posteriors import PosteriorFamily, family_of
from ngvae_tools.record import DataInfo, ModelInfo
from ngvae_tools.workflows.preprocessing import Preprocessing
from ngvae_tools.workflows.versions import versions_of

FORMAT = "ngvae-tools/pass"
VERSION = 1
FILE_NAME = "plan.json"

LIBRARIES = ("numpy", "scipy", "onnx", "onnxruntime", "onnxruntime-gpu", "h5py", "pillow", "imagecodecs", "simplejpeg")
"""Libraries whose version may change bits of a shard."""


@dataclass(frozen=True, slots=True)
class EncodingPass:
    """A data set that goes through an encoder; equal for all parts of a job array.

    Attributes:
        model: The encoder, and how it is read.
        data: The data set; `n_rejected` is 0 here.
        dataset_key: Name of the images in a file, as the user gave it.
        input_options: How the user said that a model from elsewhere takes its input.
        kept: Of a pruned encoder, which dimension of the whole one each of its own is; else None.
        model_notes: A sentence for each assumption on the encoder.
        data_notes: The same for the samples.
        plan: How the data set is cut.
        settings: What else decides the shards.
        versions: Of the libraries that made the shards.
    """

    model: ModelInfo
    data: DataInfo
    dataset_key: str | None
    input_options: InputOptions
    kept: tuple[int, ...] | None
    model_notes: tuple[str, ...]
    data_notes: tuple[str, ...]
    plan: ShardPlan
    settings: ShardSettings
    versions: Mapping[str, str]

    @classmethod
    def of(
        cls,
        session: EncoderSession,
        dataset: ImageDataset,
        *,
        dataset_key: str | None,
        input_options: InputOptions | None,
        data_notes: tuple[str, ...],
        settings: ShardSettings,
    ) -> EncodingPass:
        """The pass of a data set through an encoder, both open."""
        height, width, channels = dataset.image_shape
        return cls(
            model=model_info(session),
            data=DataInfo(
                path=dataset.location,
                kind=dataset.kind,
                fingerprint=dataset.fingerprint(),
                n_images=len(dataset),
                n_rejected=0,
                image_shape=dataset.image_shape,
                resize=dataset.resize,
            ),
            dataset_key=dataset_key,
            input_options=input_options or InputOptions(),
            kept=session.metadata.kept,
            model_notes=tuple(session.notes),
            data_notes=data_notes,
            plan=ShardPlan.of(
                len(dataset),
                image_bytes=height * width * channels * dataset.dtype.itemsize,
                rows=dataset.preferred_rows,
                values=session.latent_dim * session.positions * (1 if session.second_head is None else 2),
            ),
            settings=settings,
            versions=versions_of(*LIBRARIES),
        )

    @property
    def family(self) -> PosteriorFamily:
        """Law of the posterior."""
        return family_of(self.model.family, self.model.latent_dim, self.model.hyperparameters)

    @property
    def head_names(self) -> HeadNames:
        """The encoder's outputs, as they can be asked for again."""
        return HeadNames(**self.model.heads)

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the encoder's input, as it can be asked for again."""
        return Preprocessing(
            image_shape=self.data.image_shape,
            resize=self.data.resize,  # type: ignore[arg-type]
            heads=self.head_names,
            input_options=self.input_options,
            input_range=self.model.input_range,
            dataset_key=self.dataset_key,
            float_samples=self.data_notes,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the shards, in words: equal for two passes whose shards are equal bit for bit."""
        data = dataclasses.asdict(self.data)
        # Elsewhere the same content has another path.
        del data["path"], data["n_rejected"]
        batch = {} if self.model.provider == CPU else {"batch size": self.settings.batch_size}
        versions = {f"version of {name}": version for name, version in self.versions.items()}
        return {
            "encoder": self.model.sha256,
            "reading of the encoder": self.model.reading,
            "input": dataclasses.asdict(self.input_options),
            "provider": self.model.provider,
            **{f"data {name}": value for name, value in data.items()},
            "float samples": list(self.data_notes),
            "bootstrap": self.settings.replicates,
            "shard": dataclasses.asdict(self.plan),
            **batch,
            **versions,
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def differences(self, other: EncodingPass) -> list[str]:
        """What another pass has otherwise, a phrase each."""
        here, there = self.identity, other.identity
        names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        return [f"{name}: {there.get(name)} in place of {here.get(name)}" for name in names]

    def write(self, path: Path) -> None:
        """Write the pass as JSON, in one step.

        Raises:
            OutputError: It cannot be written.
        """
        body = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        write_text(path, json.dumps(body, indent=2, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> EncodingPass:
        """Read a pass.

        Raises:
            RecordError: There is none that can be read.
        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return _from_json(raw)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(
                f"{path} cannot be read",
                expected=f"the plan of a pass, format {FORMAT!r} version {VERSION}",
                found=str(error) or type(error).__name__,
                remedy="name a folder that select-latents of this version wrote, or pass --overwrite",
            ) from error


def model_info(session: EncoderSession) -> ModelInfo:
    """The encoder, and how it is read."""
    return ModelInfo(
        path=str(session.path.resolve()),
        sha256=session.sha256,
        family=session.metadata.family,
        latent_dim=session.latent_dim,
        hyperparameters=session.metadata.hyperparameters,
        provider=session.provider,
        positions=session.positions,
        heads=session.heads,
        input_range=session.input_range,
        trained=session.trained,
    )


def _from_json(raw: dict[str, Any]) -> EncodingPass:
    if (raw["format"], raw["version"]) != (FORMAT, VERSION):
        raise ValueError(f"format {raw['format']!r} version {raw['version']!r}")
    model, data = raw["model"], raw["data"]
    span = model["input_range"]
    hyperparameters = {k: tuple(v) if isinstance(v, list) else v for k, v in model["hyperparameters"].items()}
    return EncodingPass(
        model=ModelInfo(
            **model | {"input_range": None if span is None else tuple(span), "hyperparameters": hyperparameters}
        ),
        data=DataInfo(**data | {"image_shape": tuple(data["image_shape"])}),
        dataset_key=raw["dataset_key"],
        input_options=InputOptions(**raw["input_options"]),
        kept=None if raw["kept"] is None else tuple(raw["kept"]),
        model_notes=tuple(raw["model_notes"]),
        data_notes=tuple(raw["data_notes"]),
        plan=ShardPlan(**raw["plan"]),
        settings=ShardSettings(**raw["settings"]),
        versions=raw["versions"],
    )
