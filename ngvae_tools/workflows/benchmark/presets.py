"""What the benchmark runs: models, data sets, and the presets that put them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ngvae_tools.datasets import SetName
from ngvae_tools.errors import OptionError
from ngvae_tools.training.config import PAPER_SIGMA, TrainingConfig

PresetName = Literal["quick", "paper", "full"]
Rival = Literal["fondue", "least-volume"]

SIGMA = TrainingConfig().sigma


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the table.

    Attributes:
        name: As `--models` takes it.
        label: As the table shows it.
        options: Fields of `TrainingConfig`.
        rival: Which rival for the count this is; None for a model that is trained, exported and analysed.
    """

    name: str
    label: str
    options: Mapping[str, Any]
    rival: Rival | None = None

    @property
    def searches(self) -> bool:
        """Whether the number of latent dimensions is what it looks for."""
        return self.rival == "fondue"


@dataclass(frozen=True, slots=True)
class GeneratedData:
    """A set of generated images.

    Attributes:
        name: Short name; the file is named after it, its size and number of images.
        images: How many.
        size: Side in pixels.
        image_set: As `write_sprites` takes it.
        grid: Factors drawn from so many evenly spaced values.
        fixed: Factors that have one value.
    """

    name: str
    images: int
    size: int
    image_set: SetName = "paper"
    grid: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """Of the HDF5 file."""
        return f"{self.name}-{self.size}px-{self.images}.h5"


@dataclass(frozen=True, slots=True)
class Preset:
    """What is run.

    Attributes:
        name: As `--preset` takes it.
        data: Generated data sets.
        models: Names of models.
        latent_dims: Numbers K of latent dimensions.
        seeds: How many seeds, from 0.
        options: Fields of `TrainingConfig` for all models.
        rival_epochs: Epochs of a rival: of each K that FONDUE tries, and of Least Volume.
    """

    name: str
    data: tuple[GeneratedData, ...]
    models: tuple[str, ...]
    latent_dims: tuple[int, ...]
    seeds: int
    options: Mapping[str, Any] = field(default_factory=dict)
    rival_epochs: Mapping[str, int] = field(default_factory=lambda: {"fondue": 20, "least-volume": 60})

    def config(self, model: Model, latent_dim: int, seed: int, **options: Any) -> TrainingConfig:
        """How a cell is trained."""
        given = {**self.options, **model.options, **options}
        if given.get("epochs") is not None:
            given.pop("max_epochs", None)
        return TrainingConfig(**given, latent_dim=latent_dim, seed=seed)


def _model(name: str, label: str, rival: Rival | None = None, **options: Any) -> Model:
    return Model(name, label, {"sigma": SIGMA, **options}, rival)


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        _model("default", "NGVAE (our default)", model="ngvae"),
        _model("mixture", "NGVAE mixture", model="ngvae", objective="mixture"),
        _model("paper", "NGVAE paper", model="ngvae", objective="paper"),
        _model("vae", "VAE", model="vae"),
        _model("vae-printed", "VAE as printed", model="vae", sigma=PAPER_SIGMA),
        _model("beta-27", "beta-VAE (27)", model="beta-vae", beta=27.0, sigma=PAPER_SIGMA),
        _model("beta-150", "beta-VAE (150)", model="beta-vae", beta=150.0, sigma=PAPER_SIGMA),
        _model(
            "paper-printed", "NGVAE as printed", model="ngvae", objective="paper", gradient="g-rep", sigma=PAPER_SIGMA
        ),
        _model("beta-vae", "beta-VAE (4)", model="beta-vae", beta=4.0),
        _model("beta-tcvae", "beta-TCVAE", model="beta-tcvae"),
        _model("factor-vae", "FactorVAE", model="factor-vae"),
        _model("ard-vae", "ARD-VAE", model="ard-vae"),
        _model("fondue", "FONDUE", "fondue", model="vae"),
        _model("least-volume", "Least Volume", "least-volume", model="vae"),
    )
}
"""Every model that a benchmark can hold; sigma 0.245 unless it says otherwise."""

SPRITES = GeneratedData("sprites", 10_000, 64)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "quick",
            (GeneratedData("sprites", 6000, 32),),
            ("vae", "paper-printed", "paper", "default"),
            (15,),
            2,
            # The paper's schedule ends before; this keeps the whole below half an hour whatever it does.
            {"max_epochs": 120},
        ),
        Preset(
            "paper",
            (SPRITES,),
            ("vae-printed", "beta-27", "beta-150", "paper-printed", "vae", "default"),
            (15,),
            5,
        ),
        Preset(
            "full",
            (
                SPRITES,
                GeneratedData("places", 10_000, 64, fixed={"colour": 0.0, "shape": 1.0, "depth": 1.5}),
                GeneratedData("grid", 10_000, 64, grid={"colour": 3, "x": 12, "y": 12, "depth": 4}),
                GeneratedData("dsprites-like", 10_000, 64, "dsprites-like"),
                GeneratedData("3dshapes-like", 10_000, 64, "3dshapes-like"),
                GeneratedData("3dshapes-shifted", 10_000, 64, "3dshapes-shifted"),
            ),
            tuple(MODELS),
            (10, 15, 30),
            5,
        ),
    )
}
"""quick: under half an hour on two cores. paper: Section IV and, beside it, the noise level 0.245. full: everything."""


def find_preset(name: str) -> Preset:
    """The preset of a name; `OptionError` if there is none."""
    if name not in get_args(PresetName):
        raise _unknown("--preset", name, get_args(PresetName))
    return PRESETS[name]


def chosen(
    preset: Preset,
    *,
    models: tuple[str, ...] | None = None,
    latent_dims: tuple[int, ...] | None = None,
    seeds: int | None = None,
) -> Preset:
    """The preset with other models, other numbers of latent dimensions or another number of seeds.

    Raises:
        OptionError: A model is unknown, a model or a K named twice, or a number is not above 0.
    """
    for name in models or ():
        if name not in MODELS:
            raise _unknown("--models", name, tuple(MODELS))
    if models is not None and (not models or len(set(models)) < len(models)):
        raise _unknown("--models", ", ".join(models) or "none", tuple(MODELS))
    if seeds is not None and seeds < 1:
        raise OptionError(
            "--seeds cannot be used",
            expected="a whole number above 0",
            found=str(seeds),
            remedy="pass another --seeds, or leave it out",
        )
    if latent_dims is not None and (
        not latent_dims or len(set(latent_dims)) < len(latent_dims) or any(k < 1 for k in latent_dims)
    ):
        raise OptionError(
            "--latent-dims cannot be used",
            expected="whole numbers above 0, each once",
            found=", ".join(map(str, latent_dims)) or "none",
            remedy="pass others, such as 15,30, or leave it out",
        )
    return dataclasses.replace(
        preset,
        models=models or preset.models,
        latent_dims=latent_dims or preset.latent_dims,
        seeds=seeds or preset.seeds,
    )


def _unknown(option: str, found: str, known: tuple[str, ...]) -> OptionError:
    return OptionError(
        f"{option} cannot be used",
        expected=", ".join(known),
        found=repr(found),
        remedy=f"pass {'some of them, each once' if option == '--models' else 'one of them'}",
    )
