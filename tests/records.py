"""Builders of records that look like those of real analyses and runs, for any test."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from ngvae_tools import run as training
from ngvae_tools.record import (
    FILE_NAME,
    AnalysisRecord,
    CovarianceMetrics,
    DataInfo,
    DimensionStatistics,
    LatentsInfo,
    ModelInfo,
    Selection,
)

if TYPE_CHECKING:
    from pathlib import Path


def analysis(
    dim=15,
    informative=7,
    *,
    family="normal-gamma-mixture",
    images=6000,
    rejected=0,
    seed=0,
    notes=(),
    path="sprites.h5",
):
    """A record of `dim` dimensions, `informative` of them informative; K = 1 has its nulls and notes."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(dim, bool)
    chosen[rng.permutation(dim)[:informative]] = True
    gaussian = family == "gaussian"
    mixing = rng.normal(size=(dim, dim)) * 0.15 + np.eye(dim)
    scale = np.where(chosen, rng.uniform(0.6, 1.0, dim), rng.uniform(0.01, 0.05, dim))
    covariance = np.diag(scale) @ mixing @ mixing.T @ np.diag(scale)
    covariance = (covariance + covariance.T) / 2
    p = None if gaussian else np.where(chosen, rng.uniform(0, 0.05, dim), rng.uniform(0.62, 0.66, dim))
    variance = np.where(chosen, rng.uniform(0.01, 0.09, dim), rng.uniform(0.9, 1.0, dim))
    rows = tuple(
        DimensionStatistics(
            index=k,
            informative=bool(chosen[k]),
            mu_mean=float(rng.normal(scale=0.05)),
            mu_variance=float(covariance[k, k]),
            posterior_variance=float(variance[k]),
            posterior_entropy=float(0.5 * np.log(2 * np.pi * np.e * variance[k])),
            p_mean=None if p is None else float(p[k]),
            p_std=None if p is None else float(rng.uniform(0, 0.03)),
        )
        for k in range(dim)
    )
    verdict = tuple(bool(c) for c in chosen)
    by_variance = Selection("variance", 0.5, tuple(float(v) for v in variance), verdict)
    by_p = None if p is None else Selection("p", 0.5, tuple(float(v) for v in p), verdict)
    indices = tuple(int(k) for k in np.flatnonzero(chosen))
    if dim == 1:
        notes = (
            "decorrelation is not defined: it needs at least two dimensions.",
            *notes,
        )
    return AnalysisRecord(
        model=ModelInfo(
            "run/encoder.onnx",
            "a1" * 32,
            family,
            dim,
            {"informative_alpha": 3.65, "s": (0.25,) * dim},
            "CPUExecutionProvider",
        ),
        data=DataInfo(path, "hdf5", "sha256:" + "c3" * 32, images, rejected, (32, 32, 3), None),
        selection=by_variance if by_p is None else by_p,
        rules=(by_variance,) if by_p is None else (by_p, by_variance),
        dimensions=rows,
        covariance=tuple(tuple(float(v) for v in row) for row in covariance),
        metrics=_metrics(covariance),
        latents=LatentsInfo("latents.h5", "b2" * 32, 61_234, indices),
        timings={"seconds": 12.5, "images_per_second": 480.0},
        versions={"ngvae-tools": "0.1.0", "numpy": "2.4.6", "onnxruntime": "1.31.0"},
        notes=tuple(notes),
    )


def _metrics(covariance):
    diagonal = np.diag(covariance)
    share = diagonal / diagonal.sum()
    entropy = float(-(share * np.log(share)).sum())
    if len(covariance) == 1:
        return CovarianceMetrics(entropy, None, None, 0.0)
    off = covariance - np.diag(diagonal)
    correlation = 0.5 * (np.log(diagonal).sum() - np.linalg.slogdet(covariance)[1])
    return CovarianceMetrics(
        entropy,
        float(diagonal.sum() / np.abs(off).sum()),
        float(diagonal.sum() / off.sum()),
        float(correlation),
    )


def write_analysis(folder: Path, record=None):
    """Write a record as select-latents does, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text((record or analysis()).to_json(), encoding="utf-8")
    return folder


def epochs(number=30, dim=15, informative=7, *, gaussian=False, held_out=True, seed=0):
    """A history in which some dimensions settle near p = 0 (or a small variance) and the others at rest."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(dim, bool)
    chosen[rng.permutation(dim)[:informative]] = True
    speed = rng.uniform(3, 9, dim)
    history = []
    for epoch in range(1, number + 1):
        done = 1 - np.exp(-epoch / speed)
        p = np.where(chosen, 0.9 * (1 - done) + 0.01, 0.9 - 0.25 * done) + rng.normal(scale=0.004, size=dim)
        variance = np.where(chosen, 1 - 0.94 * done, 1 - 0.05 * done)
        distortion = 30 + 900 * math.exp(-epoch / 2)
        figures = training.Figures(
            loss=distortion - 10, distortion=distortion, rate=14 * done.mean(), mse=0.001 + 0.1 / epoch
        )
        other = dataclasses.replace(figures, distortion=distortion * 1.05, loss=distortion * 1.05 - 10)
        history.append(
            training.EpochRecord(
                epoch=epoch,
                train=figures,
                held_out=other if held_out else None,
                rate_per_dimension=tuple(float(v) for v in done),
                p=None if gaussian else tuple(float(v) for v in p.clip(0, 1)),
                posterior_variance=tuple(float(v) for v in variance),
                informative=int((variance < 0.5).sum() if gaussian else (p < 0.5).sum()),
                learning_rate=1e-3 if epoch < number * 2 / 3 else 1e-4,
                seconds=3.25,
            )
        )
    return tuple(history)


def write_run(folder: Path, history=None, *, finished=True, config=None):
    """Write a run folder as train does, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    body = {
        "format": training.FORMAT,
        "version": training.VERSION,
        "family": "normal-gamma-mixture",
        "options": {"epochs": 30, "sigma": 0.245, "seed": 0},
        **(config or {}),
    }
    (folder / training.CONFIG_NAME).write_text(json.dumps(body), encoding="utf-8")
    lines = [json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in (epochs() if history is None else history)]
    (folder / training.HISTORY_NAME).write_text("".join(lines), encoding="utf-8")
    if finished:
        (folder / training.SUMMARY_NAME).write_text(
            json.dumps({"reason": "plateau", "epochs": len(lines)}), encoding="utf-8"
        )
    return folder
