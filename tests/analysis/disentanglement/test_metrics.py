"""The whole table of supervised metrics: perfect, at chance, degenerate."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from ngvae_tools.analysis.disentanglement import Settings, supervised
from ngvae_tools.factors import Factors
from ngvae_tools.record import Supervised

SMALL = Settings(train=300, test=200, batch=16, trees=3)
SCORES = (
    "beta_vae",
    "factor_vae",
    "mig",
    "dci_disentanglement",
    "dci_completeness",
    "dci_informativeness",
    "sap",
    "modularity",
)


def measure(mu, *columns, settings=SMALL, seed=0, kinds=(), names=None):
    names = names or [f"f{k}" for k in range(len(columns))]
    factors = Factors.of(names, np.stack(columns, axis=1).astype(float), kinds=kinds)
    result = supervised(mu, factors, source="here", settings=settings, seed=seed)
    # Numbers of results are never NaN or infinite.
    json.dumps(dataclasses.asdict(result), allow_nan=False)
    assert isinstance(result, Supervised)
    assert len(result.information) == len(result.factors)
    return result


def scores(result):
    return {name: getattr(result, name) for name in SCORES}


def coins(repeats=60):
    return np.stack(np.meshgrid([0, 1], [0, 1], np.arange(repeats), indexing="ij"), axis=-1).reshape(-1, 3)[:, :2].T


def scattered(n=600, seed=0):
    """Factors that form no grid, one of them continuous, and means that mix them."""
    draw = np.random.default_rng(seed)
    shape = draw.integers(3, size=n)
    size = draw.random(n) + 0.3 * shape
    mu = np.column_stack([shape + draw.normal(size=n), 3 * size, size - shape]) + 0.3 * draw.normal(size=(n, 3))
    return mu, shape, size


def test_one_dimension_a_factor_is_perfect():
    a, b = coins()
    result = measure(np.column_stack([2.0 * b - 1, 1 - 2.0 * a]), a, b)
    found = scores(result)
    # SAP compares with the other dimension's guess, which is right in half of the cases.
    assert found.pop("sap") == pytest.approx(1 / 2, abs=0.15)
    assert found == pytest.approx(dict.fromkeys(found, 1), abs=1e-8)
    log2 = np.log(2)
    np.testing.assert_allclose(result.information, [[0, log2], [log2, 0]], atol=1e-12)
    assert (result.source, result.n_images, result.notes) == ("here", 240, ())


def test_means_that_know_nothing_are_at_chance():
    a, b = coins(1500)
    mu = np.random.default_rng(0).normal(size=(6000, 3))
    result = measure(mu, a, b, settings=Settings(train=4000, test=2000, batch=32, trees=3))
    error = np.sqrt(1 / 4 / 2000)
    # Classes of 3,000 random means differ a little, and a batch shows that: some hundredths above 1/2.
    assert abs(result.factor_vae - 1 / 2) < 0.06
    assert abs(result.beta_vae - 1 / 2) < 0.06
    assert abs(result.dci_informativeness - 1 / 2) < 4 * error
    assert result.sap < 4 * error
    # 2 n I is chi-square with 19 degrees of freedom; its mean lies below 0.003 nats.
    assert result.mig < 0.01
    assert np.max(result.information) < 50 / 8000


def test_factors_without_a_grid_and_every_setting_stated():
    import sklearn

    result = measure(*scattered(), kinds=["categorical", None])
    assert all(0 <= value <= 1 for value in scores(result).values())
    assert [(f.kind, f.declared, f.n_values, f.n_classes) for f in result.factors] == [
        ("categorical", True, 3, 3),
        ("continuous", False, 600, 20),
    ]
    stated = result.settings
    assert stated["scikit_learn"] == sklearn.__version__
    assert (stated["training_points"], stated["evaluation_points"], stated["images_a_point"]) == (300, 200, 16)
    assert (stated["training_images"], stated["test_images"], stated["information_images"]) == (300, 200, 300)
    assert "20 bins of equal count" in stated["factor_classes"]
    # 300 images in 20 x 20 cells: 19 * 19 / 600.
    assert any("0.6 nats too large" in note for note in result.notes)


def test_fewer_images_than_asked_for_are_split_in_the_same_proportion():
    stated = measure(*scattered(100)).settings
    assert (stated["training_images"], stated["test_images"], stated["information_images"]) == (60, 40, 100)


def test_the_same_input_gives_the_same_bits_and_another_seed_does_not():
    data = scattered()
    one = measure(*data, seed=1)
    assert measure(*data, seed=1) == one
    assert scores(measure(*data, seed=2)) != scores(one)


def test_a_seed_may_be_large():
    assert measure(*scattered(100), seed=2**40).sap is not None


def test_float32_and_strided_means_give_the_same():
    mu, *columns = scattered()
    mu = mu.astype(np.float32)
    assert measure(np.asfortranarray(mu), *columns) == measure(mu.astype(np.float64), *columns)


def test_images_that_lack_a_value_are_left_out_and_counted():
    mu, shape, size = scattered()
    gaps = size.copy()
    gaps[:7] = np.nan
    broken = mu.copy()
    broken[7:9, 1] = [np.inf, np.nan]
    result = measure(broken, shape, gaps)
    assert result.n_images == 591
    assert "7 of 600 labelled images lack a value" in result.notes[0]
    assert "2 of 600 labelled images have means that are not finite" in result.notes[1]
    assert scores(result) == scores(measure(mu[9:], shape[9:], size[9:]))


def test_empty_and_constant_factors_are_named():
    mu, shape, size = scattered()
    result = measure(mu, shape, np.full(600, np.nan), np.full(600, 2.0), size, names=["shape", "none", "same", "size"])
    assert [factor.name for factor in result.factors] == ["shape", "size"]
    assert result.n_images == 600
    assert any("without any value are left out: none" in note for note in result.notes)
    assert any("same is left out: it is the same in every image" in note for note in result.notes)


@pytest.mark.parametrize("n", [0, 1, 15])
def test_too_few_images(n):
    mu, shape, size = scattered(20)
    result = measure(mu[:n], shape[:n], size[:n])
    assert set(scores(result).values()) == {None}
    assert (result.n_images, result.factors) == (n, ())
    assert f"{n} labelled images are too few for the metrics: they need 16." in result.notes


def test_nothing_varies():
    result = measure(scattered()[0], np.ones(600))
    assert set(scores(result).values()) == {None}
    assert "No factor varies, so that no metric is defined." in result.notes


def test_one_factor():
    mu, shape, _ = scattered()
    found = scores(measure(mu, shape))
    undefined = {name for name, value in found.items() if value is None}
    assert undefined == {"beta_vae", "factor_vae", "dci_disentanglement", "modularity"}
    assert any("With one factor (f0)" in note for note in measure(mu, shape).notes)


def test_one_dimension():
    mu, shape, size = scattered()
    result = measure(mu[:, :1], shape, size)
    undefined = {name for name, value in scores(result).items() if value is None}
    assert undefined == {"dci_completeness", "sap"}
    assert any("takes the second largest information as 0" in note for note in result.notes)
    assert any("DCI's completeness and SAP" in note for note in result.notes)


def test_dimensions_that_never_change():
    mu, shape, size = scattered()
    result = measure(np.column_stack([mu, np.full(600, 7.0)]), shape, size)
    assert all(value is not None for value in scores(result).values())
    assert any("carry no information: 3." in note for note in result.notes)
    result = measure(np.full((600, 2), 7.0), shape, size)
    assert result.factor_vae is None
    assert any("FactorVAE metric is not defined" in note for note in result.notes)
    assert result.mig == 0
    assert result.modularity == 0


def test_huge_and_tiny_means():
    mu, shape, size = scattered()
    for scale in (1e30, 1e-30):
        assert measure(mu * scale, shape, size).mig == pytest.approx(measure(mu, shape, size).mig)


def test_classes_of_a_single_image():
    mu, shape, size = scattered()
    alone = np.where(np.arange(600) < 3, 10 + np.arange(600), shape)
    result = measure(mu, alone, size)
    assert any("3 images are alone in their class of f0" in note for note in result.notes)
    assert all(value is not None for value in scores(result).values())
    every = measure(mu[:80], np.arange(80), shape[:80], kinds=["categorical", None])
    assert (every.beta_vae, every.factor_vae) == (None, None)
    assert any("80 images are alone in their class of f0" in note for note in every.notes)


def test_a_factor_that_hardly_ever_changes():
    mu, shape, _ = scattered()
    rare = np.zeros(600)
    # The only other class falls among the images that nothing is learnt from.
    order = np.random.default_rng([0, 3]).permutation(600)
    rare[order[[450, 460]]] = 1
    result = measure(mu, rare, shape)
    assert any("DCI and SAP leave out the factor f0" in note for note in result.notes)
    assert result.dci_informativeness is not None


def test_neither_the_analysis_nor_reading_labels_loads_scikit_learn():
    code = (
        "import sys, ngvae_tools.analysis.disentanglement, ngvae_tools.workflows.supervised; "
        "print('sklearn' in sys.modules, 'threadpoolctl' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.slow
def test_the_definitions_own_numbers_on_a_grid_of_factors():
    codes = np.stack(np.meshgrid(np.arange(3), np.arange(4), np.arange(2), indexing="ij"), axis=-1).reshape(-1, 3)
    codes = np.repeat(codes, 100, axis=0)
    result = measure(codes * [1.0, 0.5, 2.0], *codes.T, settings=Settings())
    found = scores(result)
    found.pop("sap")
    assert found == pytest.approx(dict.fromkeys(found, 1), abs=1e-8)


def test_dci_and_sap_can_be_left_out():
    mu, shape, size = scattered()
    whole = measure(mu, shape, size)
    part = measure(mu, shape, size, settings=dataclasses.replace(SMALL, predict=False))
    left_out = {"dci_disentanglement", "dci_completeness", "dci_informativeness", "sap"}
    assert scores(part) == scores(whole) | dict.fromkeys(left_out)
    assert "DCI and SAP were not measured: the settings leave them out." in part.notes
