"""The numbers that decide the supervised metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults are those of the reference definitions (Locatello et al. 2019).

    Attributes:
        train: Training points, and images that MIG and modularity are taken over.
        test: Evaluation points.
        batch: Images of a point of the beta-VAE and FactorVAE metrics; with fewer images nothing is computed.
        bins: Quantile bins of a continuous factor, and equal-width bins of a dimension.
        dead: FactorVAE leaves out dimensions whose standard deviation lies below.
        trees: Rounds of gradient boosting in DCI.
        max_classes: A factor with more is left out: it names images rather than what they show.
        predict: Whether DCI and SAP are measured; gradient boosting takes minutes.
    """

    train: int = 10_000
    test: int = 5_000
    batch: int = 64
    bins: int = 20
    dead: float = 0.05
    trees: int = 100
    max_classes: int = 100
    predict: bool = True
