"""A survey equals what its parts give on all rows at once, whatever the batches and threads."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngvae_tools.analysis.information import information
from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.analysis.selection import RULES
from ngvae_tools.analysis.survey import Survey
from ngvae_tools.posteriors import (
    DeterministicPosterior,
    GaussianPosterior,
    NormalGammaMixturePosterior,
    NormalGammaPosterior,
)
from ngvae_tools.record import REPLICATES

FAMILIES = {
    "gaussian": GaussianPosterior(),
    "normal-gamma": NormalGammaPosterior(),
    "normal-gamma-mixture": NormalGammaMixturePosterior(3.65, (0.24, 0.1, 0.02)),
    "deterministic": DeterministicPosterior(),
}


def heads(name, rows, seed=0, dim=3):
    rng = np.random.default_rng(seed)
    mu = (rng.normal(size=(rows, dim)) * [1.0, 2.0, 0.01][:dim]).astype(np.float32)
    if name == "deterministic":
        return mu, None
    second = rng.normal(-3, 0.5, size=mu.shape) if name == "gaussian" else rng.beta(0.5, 0.5, size=mu.shape)
    return mu, second.astype(np.float32)


def survey(name, mu, second, cuts=(), *, index=None, positions=1, replicates=20):
    """Findings on rows that come in parts, cut at images."""
    index = np.arange(len(mu) // positions) if index is None else index
    collected = Survey(FAMILIES[name], mu.shape[1], positions=positions, replicates=replicates)
    ends = [0, *np.searchsorted(index, sorted(cuts)).tolist(), len(index)]
    for start, stop in itertools.pairwise(ends):
        rows = slice(start * positions, stop * positions)
        collected.add(index[start:stop], mu[rows], None if second is None else second[rows])
    return collected.findings()


def bits(findings):
    """Everything in the findings, to compare to the bit."""
    seen = findings.statistics
    arrays = {"low": seen.low, "high": seen.high, "row": findings.sample.row, "mu": findings.sample.mu}
    for name in ("mu", "variance", "entropy", "rate", "p"):
        if (moments := getattr(seen, name)) is not None:
            arrays |= {f"{name} mean": moments.mean, f"{name} comoment": moments.comoment}
    if seen.p_histogram is not None:
        arrays["histogram"] = seen.p_histogram
    for name, pair in (findings.replicates or {}).items():
        arrays |= {f"{name} replicates {i}": values for i, values in enumerate(pair)}
    if findings.information is not None:
        arrays |= {"information": findings.information.nats, "error": findings.information.error}
    if findings.information_replicates is not None:
        arrays["information replicates"] = findings.information_replicates
    return {name: array.tobytes() for name, array in arrays.items()}


def test_the_default_is_that_of_the_record():
    collected = Survey(FAMILIES["gaussian"], 3)
    collected.add(np.arange(30), *heads("gaussian", 30))
    assert len(collected.findings().information_replicates) == REPLICATES == 200


@settings(deadline=None, max_examples=8)
@given(st.sets(st.integers(1, 4)), st.sampled_from(list(FAMILIES)), st.sampled_from([1, 3]), st.booleans())
def test_cuts_at_blocks_change_no_bit(blocks, name, positions, gaps):
    images = 4 * BLOCK + 77
    index = np.arange(images)
    if gaps:
        # Images that were rejected, among them a whole block.
        index = index[(index % 7 != 3) & (index // BLOCK != 2)]
    mu, second = heads(name, len(index) * positions)
    whole = survey(name, mu, second, index=index, positions=positions)
    parts = survey(name, mu, second, [BLOCK * b for b in blocks], index=index, positions=positions)
    assert bits(parts) == bits(whole)
    assert parts.n_images == len(index)


def test_blocks_of_many_positions_are_worked_on_in_parts(monkeypatch):
    mu, second = heads("gaussian", 300 * 16)
    whole = survey("gaussian", mu, second, positions=16)
    monkeypatch.setattr("ngvae_tools.analysis.survey.ROWS", 512)
    parts = survey("gaussian", mu, second, positions=16)
    for name in ("mu", "variance"):
        one, other = (getattr(found.statistics, name) for found in (whole, parts))
        assert one.count == other.count == 4800
        np.testing.assert_allclose(one.covariance(), other.covariance(), rtol=1e-10, atol=1e-14)
        for a, b in zip(whole.replicates[name], parts.replicates[name], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("positions", [1, 5])
def test_findings_equal_what_all_rows_give_at_once(name, positions):
    mu, second = heads(name, 700 * positions)
    findings = survey(name, mu, second, positions=positions)
    family = FAMILIES[name]
    posterior = family.posterior(mu.astype(float), None if second is None else second.astype(float))
    scores = findings.scores
    np.testing.assert_allclose(scores.mu_variance, mu.astype(float).var(axis=0, ddof=1), rtol=1e-10)
    if second is None:
        assert (scores.variance, scores.variance_std, scores.rate, scores.p, scores.information) == (None,) * 5
        assert [findings.selection(rule) is not None for rule in RULES] == [rule == "active" for rule in RULES]
        return
    np.testing.assert_allclose(scores.variance, posterior.variance.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scores.variance_std, posterior.variance.std(axis=0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(scores.rate, posterior.rate.mean(axis=0), rtol=1e-12)
    assert (scores.p is None) == (name == "gaussian")
    # All rows fit in the sample.
    np.testing.assert_array_equal(findings.sample.mu, mu)
    np.testing.assert_array_equal(scores.information, information(findings.sample, family, positions).nats)
    assert set(findings.replicates) == {"mu", "variance", "entropy", "rate"} | (
        {"p"} if scores.p is not None else set()
    )


def test_replicates_are_weighted_statistics_of_images():
    mu, second = heads("normal-gamma-mixture", 400)
    findings = survey("normal-gamma-mixture", mu, second, replicates=7)
    from ngvae_tools.analysis.bootstrap import Weights

    weights = Weights(7).of(np.arange(400))
    for r in range(7):
        drawn = np.repeat(np.arange(400), weights[:, r].astype(int))
        rows = mu[drawn].astype(float)
        np.testing.assert_allclose(findings.replicates["mu"][0][r], rows.mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(findings.replicate_scores.mu_variance[r], rows.var(axis=0, ddof=1), rtol=1e-9)
        np.testing.assert_allclose(findings.replicate_scores.p[r], second[drawn].astype(float).mean(axis=0), rtol=1e-9)
        gains = findings.information.gain[drawn].mean(axis=0)
        np.testing.assert_allclose(findings.information_replicates[r], gains, rtol=1e-9, atol=1e-12)


def test_counts_have_intervals_that_hold_them():
    rng = np.random.default_rng(1)
    # Dimension 1 lies on the threshold of active units: it counts in about half of the replicates.
    mu = (rng.normal(size=(2000, 3)) * [1.0, 0.1, 0.001]).astype(np.float32)
    mu[:, 1] *= 0.1 / mu[:, 1].std()
    findings = survey("deterministic", mu, None, replicates=200)
    assert findings.selection("active").count_interval == (1, 2)
    assert findings.selection("active", 0.5).count_interval == (1, 1)
    assert survey("deterministic", mu, None, replicates=0).selection("active").count_interval is None


def test_the_standard_error_of_information_agrees_with_its_bootstrap():
    rng = np.random.default_rng(2)
    mu = np.repeat(rng.normal(size=(500, 1)), 4, axis=0) + 0.3 * rng.normal(size=(2000, 1))
    second = np.full(mu.shape, -2.0, np.float32)
    findings = survey("gaussian", mu.astype(np.float32), second, positions=4, replicates=200)
    assert findings.information_replicates.std() == pytest.approx(findings.information.error[0], rel=0.2)


DEGENERATE = {
    "one image": (1, 3, 1),
    "one image of positions": (1, 3, 9),
    "two images": (2, 3, 1),
    "fewer images than dimensions": (5, 30, 1),
    "one dimension": (40, 1, 1),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("images", "dim", "positions"), DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("constant", [False, True])
def test_degenerate_input_gives_numbers_or_nothing(name, images, dim, positions, constant, monkeypatch):
    monkeypatch.setitem(FAMILIES, "normal-gamma-mixture", NormalGammaMixturePosterior(3.65, (0.24,) * dim))
    rng = np.random.default_rng(3)
    mu = np.full((images * positions, dim), 0.7) if constant else rng.normal(size=(images * positions, dim))
    second = None if name == "deterministic" else np.full(mu.shape, 0.2, np.float32)
    findings = survey(name, mu.astype(np.float32), second, positions=positions, replicates=50)
    scores = findings.scores
    for field in ("mu_variance", "variance", "variance_std", "p", "rate", "information"):
        value = getattr(scores, field)
        assert value is None or np.isfinite(value).all()
    for rule in RULES:
        selection = findings.selection(rule)
        if selection is not None:
            json.dumps([selection.score, selection.count_interval], allow_nan=False)
    if images == 1:
        assert (scores.mu_variance, scores.variance_std, scores.information, findings.replicates) == (None,) * 4
        assert findings.selection("active") is None
    if images == 2:
        # One in seven replicates holds no image.
        assert all(
            findings.selection(rule) is None or findings.selection(rule).count_interval is None for rule in RULES
        )
    if constant and images > 1:
        assert (scores.mu_variance == 0).all()
        assert findings.selection("active").count == 0
        if second is not None:
            assert (scores.information < 1e-6).all()


def test_blocks_without_an_image_change_nothing():
    mu, second = heads("gaussian", 20)
    plain = survey("gaussian", mu, second, positions=2)
    collected = Survey(FAMILIES["gaussian"], 3, positions=2, replicates=20)
    nothing = np.arange(0), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)
    collected.add(*nothing)
    with pytest.raises(ValueError, match="no image was added"):
        collected.findings()
    collected.add(np.arange(10), mu, second)
    collected.add(*nothing)
    assert bits(collected.findings()) == bits(plain)


THREADS = """
import hashlib, pathlib, re, sys
import numpy as np
from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.analysis.survey import Survey
from ngvae_tools.posteriors import NormalGammaMixturePosterior
digest = hashlib.sha256()
for dim in (15, 64):
    survey = Survey(NormalGammaMixturePosterior(3.65, (0.1,) * dim), dim, replicates=200)
    rng = np.random.default_rng(dim)
    for block in range(3):
        mu = rng.normal(size=(BLOCK, dim)).astype(np.float32)
        survey.add(np.arange(block * BLOCK, (block + 1) * BLOCK), mu, rng.uniform(size=mu.shape).astype(np.float32))
    found = survey.findings()
    for values in (found.statistics.mu.comoment, found.information.nats, found.information_replicates):
        digest.update(values.tobytes())
    for pair in found.replicates.values():
        digest.update(pair[0].tobytes() + pair[1].tobytes())
status = pathlib.Path("/proc/self/status")
threads = re.search(r"Threads:\\s*(\\d+)", status.read_text())[1] if status.exists() else 0
print(digest.hexdigest(), threads)
"""


def test_threads_of_blas_change_no_bit():
    found = []
    for threads in ("1", "2"):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, threads)
        done = subprocess.run(
            [sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True
        )
        found.append(done.stdout.split())
    assert found[0][0] == found[1][0]
    # Else the environment was not heard and the comparison says nothing.
    if (os.cpu_count() or 1) > 1 and sys.platform.startswith("linux"):
        assert int(found[0][1]) < int(found[1][1])
