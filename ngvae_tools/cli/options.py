"""Options that several commands share: how to read a model from elsewhere, which dimensions to keep, and the like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ngvae_tools.errors import OptionError

if TYPE_CHECKING:
    from ngvae_tools.workflows.storing import StoreOptions

Rule = Annotated[
    Literal["p", "variance", "active", "rate", "information", "type", "snr"] | None,
    typer.Option(help="Criterion that decides [default: p where the encoder has it, else variance]."),
]
Threshold = Annotated[
    float | None, typer.Option(help="Threshold of the rule [default: the rule's own, see the README].")
]
Dimensions = Annotated[str | None, typer.Option(help="Keep these dimensions, whatever the rules say.", metavar="0,3,5")]
Decoder = Annotated[Path | None, typer.Option(help="Decoder (ONNX) or run: measure what dropping dimensions costs.")]
Verify = Annotated[
    bool, typer.Option("--verify", help="Decode a sample of the latent file: what quantisation costs; with --decoder.")
]
AnyDecoder = Annotated[
    bool,
    typer.Option(
        "--any-decoder", help="Take a decoder that does not seem to belong to the latents, such as one pruned since."
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(help="Disentanglement against known factors: a CSV, or auto for labels in the data set."),
]
Distortion = Annotated[
    float | None,
    typer.Option(help="Error of the latent file's steps, as a share of the posterior variance [default: 0.01]."),
]
Lossless = Annotated[bool, typer.Option("--lossless", help="Keep the latents as float32, not quantised.")]
Keep = Annotated[
    Literal["informative", "all"], typer.Option(help="Dimensions that go into the latent file.", show_default=True)
]
CodecName = Annotated[
    Literal["deflate", "archive"],
    typer.Option(help="How latents are packed: for any HDF5 reader, or denser, for ngvae-tools alone."),
]
Mu = Annotated[str | None, typer.Option(help="Output that holds mu, for models from elsewhere.")]
P = Annotated[str | None, typer.Option(help="Output that holds p (near 0 = informative).")]
Logvar = Annotated[str | None, typer.Option(help="Output that holds the log-variance.")]
InputLayout = Annotated[
    Literal["NHWC", "NCHW"] | None, typer.Option(help="Axes of the input, where the shape does not tell.")
]
InputRange = Annotated[
    str | None,
    typer.Option(
        help="Range of the input of a model from elsewhere [default: the selection's, else inferred].",
        metavar="LOW,HIGH",
    ),
]
Spatial = Annotated[
    Literal["channel", "position"],
    typer.Option(help="A dimension of a spatial latent: a channel, or a channel at a position."),
]


def parse_dimensions(text: str) -> tuple[int, ...]:
    """The numbers of `--dimensions`.

    Raises:
        OptionError: The text is no list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            "--dimensions cannot be read",
            expected="whole numbers from 0 with commas between, such as 0,3,5",
            found=repr(text),
            remedy="correct it",
        ) from None


def storing(
    distortion: float | None,
    *,
    lossless: bool,
    keep: Literal["informative", "all"],
    codec: Literal["deflate", "archive"],
) -> StoreOptions:
    """What goes into the latent file.

    Raises:
        OptionError: A distortion is given of what is not quantised.
    """
    from ngvae_tools.workflows.storing import StoreOptions

    if distortion is not None and lossless:
        raise OptionError(
            "--distortion and --lossless exclude each other",
            expected="one of them",
            found=f"--distortion {distortion:g} and --lossless",
            remedy="leave one out",
        )
    given = {} if distortion is None else {"distortion": distortion}
    return StoreOptions(**given, lossless=lossless, keep=keep, codec=codec)


def parse_limit(text: str | None) -> float | None:
    """The number of `--max-rejected`: whole images, or a share below 1 as a float.

    Raises:
        OptionError: The text is neither.
    """
    if text is None:
        return None
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            if 0 <= share < 1:
                return share
        elif text.isdecimal():
            return int(text)
        elif 0 <= float(text) < 1:
            return float(text)
    except ValueError:
        pass
    raise OptionError(
        "--max-rejected cannot be read",
        expected="a number of images such as 100, or a share below 1 such as 1% or 0.01",
        found=repr(text),
        remedy="correct it",
    )


def parse_shard(text: str) -> tuple[int, int]:
    """The numbers of `--shard i/n`.

    Raises:
        OptionError: The text is no such pair.
    """
    try:
        number, of = text.split("/")
        return int(number), int(of)
    except ValueError:
        raise OptionError(
            "--shard cannot be read",
            expected="a part i of n as i/n, for example 1/8",
            found=repr(text),
            remedy="correct it",
        ) from None


def refuse_with_shard(**options: object) -> None:
    """Refuse what a part alone cannot do.

    Raises:
        OptionError: Such an option is given.
    """
    named = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if named:
        raise OptionError(
            "a part makes no selection",
            expected="--shard with options on the model, the data and the work alone",
            found=", ".join(named),
            remedy="give these to ngvae-tools merge",
        )
