"""Disentanglement metrics against known factors, as texts; stdlib only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.reporting.words import flat, listed, number, plain, plural

if TYPE_CHECKING:
    from ngvae_tools.record import Factor, Supervised
    from ngvae_tools.reporting.facts import Rows

METRICS = {
    "beta_vae": "beta-VAE metric (Higgins et al. 2017), evaluation accuracy",
    "factor_vae": "FactorVAE metric (Kim and Mnih 2018), evaluation accuracy",
    "mig": "MIG: mutual information gap (Chen et al. 2018)",
    "dci_disentanglement": "DCI disentanglement (Eastwood and Williams 2018)",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness: mean test accuracy",
    "sap": "SAP: separated attribute predictability (Kumar et al. 2018)",
    "modularity": "modularity (Ridgeway and Mozer 2018)",
}

_SPELLINGS = {
    "Beta vae": "beta-VAE",
    "Factor vae": "FactorVAE",
    "Mig": "MIG",
    "Dci": "DCI",
    "Sap": "SAP",
    "Scikit learn": "scikit-learn",
}

FAINT_NATS = 0.01
"""Dimensions with less than this about every factor make no row of a terminal's table."""


def metric_rows(supervised: Supervised) -> list[tuple[str, str]]:
    """A label and its value."""
    return [(label, number(getattr(supervised, name))) for name, label in METRICS.items()]


def source_rows(supervised: Supervised) -> Rows:
    """Where the labels come from."""
    return [
        ("Labels", f"{plain(supervised.source)}, {plural(supervised.n_images, 'image', 'images')}"),
        ("Factors", "; ".join(factor_text(factor) for factor in supervised.factors) or "none"),
    ]


def setting_rows(supervised: Supervised) -> Rows:
    """The choices that decide the metrics."""
    return [(_setting(name), text) for name, text in flat(dict(supervised.settings))]


def _setting(name: str) -> str:
    words = name.replace("_", " ").capitalize()
    known = next((prefix for prefix in _SPELLINGS if words == prefix or words.startswith(f"{prefix} ")), "")
    return _SPELLINGS.get(known, "") + words[len(known) :]


def factor_text(factor: Factor) -> str:
    """A factor, its kind and how its values became classes."""
    said = "declared" if factor.declared else "detected"
    classes = "" if factor.n_classes == factor.n_values else f" in {plural(factor.n_classes, 'class', 'classes')}"
    names = f": {listed(factor.classes)}" if factor.classes else ""
    return f"{plain(factor.name)} ({factor.kind}, {said}, {plural(factor.n_values, 'value', 'values')}{classes}{names})"


def information_rows(supervised: Supervised, *, every: bool) -> tuple[list[tuple[int, list[str]]], list[int]]:
    """I(z_k; factor) in nats: a row a dimension, a cell a factor, the largest of each factor marked.

    Returns:
        The rows, and the dimensions that are left out because they say nothing about any factor.
    """
    table = supervised.information
    dims = range(len(table[0]) if table else 0)
    left_out = [] if every else [k for k in dims if all(row[k] < FAINT_NATS for row in table)]
    best = [max(row) for row in table]
    kept = [
        (k, [f"{number(row[k])}{'*' if row[k] == top > 0 else ' '}" for row, top in zip(table, best, strict=True)])
        for k in dims
        if k not in left_out
    ]
    return kept, left_out
