"""What dropping dimensions costs, as texts; stdlib only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.reporting.words import ABSENT, measured, number, plain, plural

if TYPE_CHECKING:
    from ngvae_tools.record import Truncation, TruncationCurve

HEADS = (
    "kept",
    "dimension added",
    "error ± standard error",
    "error in order of information",
    "relevance",
    "effect",
    "sensitivity",
)

SHORT_HEADS = ("kept", "adds", "error\n± standard error", "by infor-\nmation", "relevance", "effect", "sensi-\ntivity")

LEGEND = (
    "Error: mean squared error per value of an image in [0, 1] with so many dimensions kept, the others held at their "
    "mean; added in order of relevance. Relevance: rise of the error, effect: change of the image, when the dimension "
    "alone is held at its mean. Sensitivity: change of an image's values per unit of z."
)


def doubt_of(truncation: Truncation) -> str:
    """A sentence where the decoder, with every dimension, is no better than without any; else empty."""
    errors, mean_image = truncation.by_relevance.error, truncation.mean_image_error
    error = errors[-1]
    if error < errors[0] and (not mean_image or error < mean_image):
        return ""
    beaten = "" if mean_image is None else f"the mean image ({mean_image:.3g}) or of "
    return (
        f"With every dimension kept the decoder's error is {error:.3g}, no better than that of {beaten}no dimension; "
        "it may not belong to this encoder, or its output may have another range."
    )


def knee_text(truncation: Truncation) -> str:
    """Where the curves bend, and what the errors are there and with all dimensions."""
    found: dict[tuple[int, str], list[str]] = {}
    for name, curve in (("relevance", truncation.by_relevance), ("information", truncation.by_information)):
        if curve is not None and curve.knee is not None:
            found.setdefault((curve.knee, number(curve.error[curve.knee])), []).append(name)
    parts = [
        f"{plural(knee, 'dimension', 'dimensions')} in order of {' and of '.join(names)}, error {error}"
        for (knee, error), names in found.items()
    ]
    return f"{'; '.join(parts) or 'none'}; {number(truncation.by_relevance.error[-1])} with all"


def rows(truncation: Truncation) -> list[list[str]]:
    """A row for each number of dimensions kept, n = 0 to K, cells as `HEADS` names them."""
    curve, other = truncation.by_relevance, truncation.by_information
    result = []
    for n in range(len(curve.error)):
        k = curve.order[n - 1] if n else None
        alone = (truncation.relevance, truncation.effect, truncation.sensitivity)
        result.append(
            [
                f"{n} (knee)" if n == curve.knee else str(n),
                "" if k is None else str(k),
                _error(curve, n),
                ABSENT if other is None else number(other.error[n]),
                *("" if k is None else number(values[k]) for values in alone),
            ]
        )
    return result


def source(truncation: Truncation) -> str:
    """Where the numbers come from, as a sentence."""
    images = plural(truncation.n_images, "image", "images")
    return f"Measured on {images} with the decoder {plain(truncation.decoder)}."


def _error(curve: TruncationCurve, n: int) -> str:
    return measured(curve.error[n], None if curve.standard_error is None else curve.standard_error[n])
