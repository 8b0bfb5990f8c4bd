"""Options that several commands share: how to read a model from elsewhere, and which dimensions to keep."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ngvae_tools.errors import OptionError

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
