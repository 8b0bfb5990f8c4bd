"""Builders of records that look like those of real analyses and runs, for any test."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from ngvae_tools import run as training
from ngvae_tools.analysis.covariance import covariance_metrics
from ngvae_tools.record import (
    FILE_NAME,
    P_BINS,
    AnalysisRecord,
    Bootstrap,
    DataInfo,
    DimensionStatistics,
    Factor,
    IntrinsicDimension,
    LatentsInfo,
    ModelInfo,
    Selection,
    Supervised,
    Truncation,
    TruncationCurve,
)
from ngvae_tools.sweep_record import Level, Plateau, SweepRecord, Trial, Verdict

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
    full=False,
):
    """A record of `dim` dimensions, `informative` of them informative; K = 1 has its nulls and notes.

    `full` adds what options add: bootstrap intervals, what dropping costs, metrics against known factors.
    """
    rng = np.random.default_rng(seed)
    chosen = np.zeros(dim, bool)
    chosen[rng.permutation(dim)[:informative]] = True
    with_p, codes = family not in {"gaussian", "deterministic"}, family == "deterministic"
    mixing = rng.normal(size=(dim, dim)) * 0.15 + np.eye(dim)
    scale = np.where(chosen, rng.uniform(0.6, 1.0, dim), rng.uniform(0.01, 0.05, dim))
    covariance = np.diag(scale) @ mixing @ mixing.T @ np.diag(scale)
    covariance = (covariance + covariance.T) / 2
    p = np.where(chosen, rng.uniform(0, 0.05, dim), rng.uniform(0.62, 0.66, dim)) if with_p else None
    variance = np.where(chosen, rng.uniform(0.01, 0.09, dim), rng.uniform(0.9, 1.0, dim))
    rows = tuple(
        DimensionStatistics(
            index=k,
            informative=bool(chosen[k]),
            mu_mean=float(rng.normal(scale=0.05)),
            mu_variance=float(covariance[k, k]),
            mu_low=-3 * float(scale[k]),
            mu_high=3 * float(scale[k]),
            **({} if codes else _posterior(k, chosen, covariance, variance, rng)),
            **({} if p is None else _p_over_images(k, p, images - rejected, rng)),
        )
        for k in range(dim)
    )
    if full:
        rows = tuple(dataclasses.replace(row, intervals=_intervals(row)) for row in rows)
    rules = _rules(rows, p, codes=codes)
    if full:
        rules = tuple(dataclasses.replace(r, count_interval=(r.count, min(r.count + 1, dim))) for r in rules)
    indices = tuple(int(k) for k in np.flatnonzero(chosen))
    if dim == 1:
        notes = (
            "decorrelation is not defined: it needs at least two dimensions.",
            *notes,
        )
    spread = np.diag(variance)
    return AnalysisRecord(
        model=ModelInfo(
            "run/encoder.onnx",
            "a1" * 32,
            family,
            dim,
            {"informative_alpha": 3.65, "s": (0.25,) * dim},
            "CPUExecutionProvider",
            heads={"mu": "mu"} if codes else {"mu": "mu", "p" if with_p else "logvar": "p" if with_p else "logvar"},
        ),
        data=DataInfo(path, "hdf5", "sha256:" + "c3" * 32, images, rejected, (32, 32, 3), None),
        selection=rules[0],
        rules=rules,
        dimensions=rows,
        covariance=tuple(tuple(float(v) for v in row) for row in covariance),
        metrics=covariance_metrics(covariance)[0],
        latents=_latents(indices, images),
        timings={"seconds": 12.5, "images_per_second": 480.0},
        versions={"ngvae-tools": "0.1.0", "numpy": "2.4.6", "onnxruntime": "1.31.0"},
        sample_metrics=None if codes else covariance_metrics(covariance + spread)[0],
        intrinsic_dimension=_intrinsic(indices) if full and indices else None,
        bootstrap=Bootstrap(200, 0.95, 0) if full else None,
        truncation=_truncation(dim, chosen, rng) if full else None,
        supervised=_supervised(dim, chosen, rng) if full else None,
        notes=tuple(notes),
    )


def _latents(indices, images):
    many = len(indices)
    return LatentsInfo(
        file="latents.h5",
        sha256="b2" * 32,
        bytes=61_234,
        dimensions=indices,
        codec="deflate",
        distortion=0.01,
        codes_bytes=52_000,
        identifiers_bytes=3_000,
        bits=(6.5,) * many,
        entropy_bits=(6.3,) * many,
        max_error=(0.02,) * many,
        mean_squared_error=(0.0001,) * many,
        raw_bytes=3072.0,
        png_bytes=811.5,
        jpeg_bytes=702.25,
        decoder_bytes=282_349,
    )


def _posterior(k, chosen, covariance, variance, rng):
    information = 0.5 * math.log1p(covariance[k, k] / variance[k]) if chosen[k] else 0.004 * rng.random()
    return {
        "posterior_variance": float(variance[k]),
        "posterior_variance_std": float(0.1 * variance[k]),
        "posterior_entropy": float(0.5 * np.log(2 * np.pi * np.e * variance[k])),
        "rate": float(3.56 + information + 0.01 * rng.random()),
        "rate_floor": 3.56,
        "information": float(information),
        "information_error": 0.004,
        "snr": float(covariance[k, k] / variance[k]),
        "type": "active" if chosen[k] else "passive",
    }


def _p_over_images(k, p, rows, rng):
    spread = np.bincount(np.minimum((rng.beta(20 * p[k] + 0.2, 20 * (1 - p[k]), 500) * P_BINS).astype(int), P_BINS - 1))
    counts = np.zeros(P_BINS, int)
    counts[: len(spread)] = spread * (rows // 500)
    counts[counts.argmax()] += rows - counts.sum()
    return {"p_mean": float(p[k]), "p_std": float(rng.uniform(0, 0.03)), "p_histogram": tuple(int(c) for c in counts)}


def _intervals(row):
    names = (
        "mu_mean",
        "mu_variance",
        "posterior_variance",
        "posterior_entropy",
        "rate",
        "information",
        "snr",
        "p_mean",
        "p_std",
    )
    values = {name: getattr(row, name) for name in names}
    return {n: (v - 0.03 * abs(v), v + 0.03 * abs(v)) for n, v in values.items() if v is not None}


def _rules(rows, p, *, codes):
    def rule(name, threshold, keeps, score):
        scores = [float(score(row)) for row in rows]
        return Selection(
            name,
            threshold,
            keeps,
            tuple(scores),
            tuple(s < threshold if keeps == "below" else s >= threshold for s in scores),
        )

    active = rule("active", 0.01, "above", lambda row: row.mu_variance)
    if codes:
        return (active,)
    by_p = () if p is None else (rule("p", 0.5, "below", lambda row: row.p_mean),)
    return (
        *by_p,
        rule("variance", 0.5, "below", lambda row: row.posterior_variance),
        active,
        rule("rate", 0.1, "above", lambda row: row.rate - row.rate_floor),
        rule("information", 0.1, "above", lambda row: row.information),
        rule("type", 0.5, "above", lambda row: ("passive", "mixed", "active").index(row.type)),
        rule("snr", 1.0, "above", lambda row: row.snr),
    )


def _intrinsic(indices):
    dim = 0.8 * len(indices)
    return IntrinsicDimension(indices, 5000, dim, (0.97 * dim, 1.04 * dim), 0.98 * dim, (0.96 * dim, 1.05 * dim))


def _truncation(dim, chosen, rng):
    relevance = np.where(chosen, rng.uniform(1e-3, 9e-3, dim), rng.uniform(0, 1e-5, dim))
    other = relevance * rng.uniform(0.8, 1.2, dim)

    def curve(by):
        order = np.argsort(-by, kind="stable")
        error = 1e-3 + np.append(relevance[order][::-1].cumsum()[::-1], 0)
        knee = int(chosen.sum()) if 0 < chosen.sum() < dim else None
        numbers = [tuple(float(v) for v in values) for values in (error, 0.02 * error)]
        return TruncationCurve(tuple(int(k) for k in order), *numbers, knee)

    effect, sensitivity = relevance * 1.3, np.sqrt(relevance)
    return Truncation(
        "run/decoder.onnx",
        "d4" * 32,
        1000,
        curve(other),
        curve(relevance),
        *(tuple(float(v) for v in values) for values in (relevance, effect, sensitivity)),
    )


def _supervised(dim, chosen, rng):
    factors = (
        Factor("shape", "categorical", True, 3, 3),
        Factor("hue", "circular", True, 6000, 20),
        Factor("x", "continuous", True, 6000, 20),
        Factor("y", "continuous", False, 6000, 20),
        Factor("depth", "continuous", True, 6000, 20),
    )
    information = rng.exponential(0.3, (len(factors), dim)) * chosen
    return Supervised(
        source="sprites.h5, data set labels",
        n_images=6000,
        factors=factors,
        beta_vae=0.981,
        factor_vae=0.874,
        mig=0.312,
        dci_disentanglement=0.71,
        dci_completeness=0.65,
        dci_informativeness=0.93,
        sap=None,
        modularity=0.88,
        information=tuple(tuple(float(v) for v in row) for row in information),
        settings={"bins": 20, "batch": 64, "classifier": "LogisticRegression"},
        notes=("sap is not defined: it needs at least two dimensions that vary.",),
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


def sweep(
    counts=((13, 12), (9, 9), (6, 7), (6, 6), (6, 6)), sigmas=(0.06, 0.12, 0.245, 0.35, 0.5), *, dim=15, **fields
):
    """A sweep whose levels have these counts by p, the first of each kept."""
    random = np.random.default_rng(0)

    def trial(sigma, seed, count):
        if count is None:
            return Trial(f"sigma-{sigma!r}-seed-{seed}", seed, failed="training diverged in epoch 1: found nan.")
        information = np.sort(random.uniform(0.5, 3, dim))[::-1]
        information[count:] = 0.01
        return Trial(
            f"sigma-{sigma!r}-seed-{seed}",
            seed,
            held_out=True,
            loss=80.0 + seed,
            distortion=-2000 + 5000 * sigma,
            rate=20 / sigma**0.3,
            mse=4e-3 * sigma,
            counts={"p": count, "active": count, "information": count},
            informative=tuple(range(count)),
            p=tuple([0.01] * count + [0.9] * (dim - count)),
            information=tuple(information.tolist()),
            two_nn=None if count < 2 else 5.2,
            two_nn_interval=None if count < 2 else (4.7, 6.3),
            epochs=60,
            settled=30,
        )

    levels = []
    for sigma, row in zip(sigmas, counts, strict=True):
        trials = tuple(trial(sigma, seed, count) for seed, count in enumerate(row))
        best = next((i for i, t in enumerate(trials) if t.failed is None), None)
        levels.append(Level(sigma, trials, best))
    values = {
        "data": {"path": "/data/sprites.h5", "fingerprint": "ab" * 32, "n_images": 6000, "n_rejected": 0},
        "options": {"model": "ngvae", "objective": "mixture", "latent_dim": dim, "epochs": 60},
        "latent_dim": dim,
        "rule": "p",
        "levels": tuple(levels),
        "verdicts": tuple(Verdict(rule, (Plateau(6, 0.245, 0.5, 3),)) for rule in ("p", "information")),
        "timings": {"total_seconds": 900.0},
        "versions": {"ngvae-tools": "0.1.0"},
        "notes": ("The plateau by p reaches the end of the sweep: higher levels would show where it ends.",),
    }
    return SweepRecord(**values | fields)
