"""All supervised metrics of a table of means and factors."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.disentanglement import information, pairs, prediction
from ngvae_tools.analysis.disentanglement.classes import Classes, classes_of
from ngvae_tools.analysis.disentanglement.pairing import Groups
from ngvae_tools.analysis.disentanglement.settings import Settings
from ngvae_tools.factors import Factors
from ngvae_tools.record import Supervised

Array = npt.NDArray[np.float64]

_LARGEST = float(np.finfo(np.float32).max)
_NOTABLE_EXCESS = 0.05  # nats


def supervised(
    mu: npt.NDArray[np.floating],
    factors: Factors,
    *,
    source: str,
    settings: Settings | None = None,
    seed: int = 0,
) -> Supervised:
    """Every supervised metric, the same for the same input; see the package for the definitions.

    With 15,000 images, K = 15, four factors of 20 classes and one of three, DCI's gradient boosting takes six
    minutes of processor time (4.5 s a class), shared among the processors, and all else takes some seconds.

    Args:
        mu: Posterior means, (n, K).
        factors: The same images' factors; an image that lacks one is left out.
        source: Where the labels came from.
        settings: The definitions' own numbers by default.
        seed: Of every draw.
    """
    settings = settings or Settings()
    means = np.asarray(mu, np.float64)
    means, factors, notes = _complete(means, factors)
    classes = classes_of(factors, bins=settings.bins, max_classes=settings.max_classes)
    notes += classes.notes
    if len(means) < settings.batch:
        notes += (f"{len(means)} labelled images are too few for the metrics: they need {settings.batch}.",)
    elif not classes.factors:
        notes += ("No factor varies, so that no metric is defined.",)
    else:
        return _measured(means, classes, _Run(source, settings, seed, notes))
    return Supervised(
        source, len(means), (), *(None,) * 8, information=(), settings=_words(settings, seed), notes=notes
    )


@dataclass(frozen=True, slots=True)
class _Run:
    source: str
    settings: Settings
    seed: int
    notes: tuple[str, ...]

    def rng(self, metric: int) -> np.random.Generator:
        """Draws of one metric, which do not change with what the others draw."""
        return np.random.default_rng([self.seed, metric])


def _complete(mu: Array, factors: Factors) -> tuple[Array, Factors, tuple[str, ...]]:
    """The images whose means and factors are all finite, and notes on what was left out."""
    notes = []
    known = np.isfinite(factors.values)
    used = [k for k in range(len(factors.names)) if known[:, k].any() or not len(known)]
    if len(used) < len(factors.names):
        empty = ", ".join(name for k, name in enumerate(factors.names) if k not in used)
        notes.append(f"Factors without any value are left out: {empty}.")
    if missing := int(np.sum(~known[:, used].all(axis=1))):
        notes.append(f"{missing:,} of {len(mu):,} labelled images lack a value of a factor and are left out.")
    finite = (np.abs(mu) <= _LARGEST).all(axis=1)
    if broken := int(np.sum(~finite)):
        notes.append(f"{broken:,} of {len(mu):,} labelled images have means that are not finite and are left out.")
    rows = np.asarray(known[:, used].all(axis=1) & finite)
    return mu[rows], factors.take(rows).columns(used), tuple(notes)


def _measured(mu: Array, classes: Classes, run: _Run) -> Supervised:
    from threadpoolctl import threadpool_limits

    table, mig, modularity, notes = _informed(mu, classes, run)
    # Sums of several threads differ in their last bits with the number of threads.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # The limits of iterations are part of the definitions, whether they suffice or not.
        warnings.simplefilter("ignore", UserWarning)
        beta_vae, factor_vae, more = _paired(mu, classes, run)
        dci, sap, most = _predicted(mu, classes, run)
    return Supervised(
        source=run.source,
        n_images=len(mu),
        factors=classes.factors,
        beta_vae=beta_vae,
        factor_vae=factor_vae,
        mig=mig,
        dci_disentanglement=dci.disentanglement,
        dci_completeness=dci.completeness,
        dci_informativeness=dci.informativeness,
        sap=sap,
        modularity=modularity,
        information=tuple(tuple(row) for row in table.tolist()),
        settings=_words(run.settings, run.seed, len(mu)),
        notes=(*run.notes, *notes, *more, *most),
    )


def _informed(mu: Array, classes: Classes, run: _Run) -> tuple[Array, float | None, float | None, list[str]]:
    """The table of information, MIG, modularity, and notes."""
    count = run.settings.train
    rows = run.rng(0).choice(len(mu), count, replace=False) if len(mu) > count else np.arange(len(mu))
    latent = information.equal_width_bins(mu[rows], run.settings.bins)
    codes = classes.codes[rows]
    table = information.information_table(latent, codes)
    notes = []
    if (excess := information.excess(latent, codes)) > _NOTABLE_EXCESS:
        notes.append(
            f"With {len(rows):,} images the information about a factor is up to about {excess:.2g} nats too large, "
            "also where there is none; MIG and modularity are taken from it."
        )
    if mu.shape[1] == 1:
        notes.append("With one dimension MIG takes the second largest information as 0.")
    constant = [k for k in range(mu.shape[1]) if not latent[:, k].any()]
    if constant:
        notes.append(f"Constant dimensions, which carry no information: {', '.join(map(str, constant))}.")
    entropy = information.entropies(codes)
    varied = entropy > 0
    if not varied.any():
        notes.append("MIG is not defined: no factor varies in the images drawn for it.")
    mig = information.mig(table[varied], entropy[varied]) if varied.any() else None
    if len(classes.factors) == 1:
        notes.append(
            f"With one factor ({classes.factors[0].name}) the beta-VAE and FactorVAE metrics, DCI's disentanglement "
            "and modularity are not defined."
        )
        return table, mig, None, notes
    return table, mig, information.modularity(table), notes


def _paired(mu: Array, classes: Classes, run: _Run) -> tuple[float | None, float | None, list[str]]:
    """The beta-VAE and FactorVAE metrics, and notes."""
    notes = []
    groups = []
    for k, factor in enumerate(classes.factors):
        group = Groups.of(classes.codes[:, k])
        if alone := len(mu) - len(group.order):
            notes.append(f"{alone:,} images are alone in their class of {factor.name}, so that none pairs with them.")
        if len(group.order):
            groups.append(group)
    if len(groups) < 2:
        if len(classes.factors) > 1:
            notes.append("The beta-VAE and FactorVAE metrics need two factors whose classes have several images.")
        return None, None, notes
    factor_vae = pairs.factor_vae(mu, groups, run.settings, run.rng(2))
    if factor_vae is None:
        notes.append(
            "The FactorVAE metric is not defined: the standard deviation of every dimension lies below "
            f"{run.settings.dead}."
        )
    return pairs.beta_vae(mu, groups, run.settings, run.rng(1)), factor_vae, notes


def _predicted(mu: Array, classes: Classes, run: _Run) -> tuple[prediction.DCI, float | None, list[str]]:
    """DCI, SAP, and notes."""
    if not run.settings.predict:
        return prediction.DCI(), None, ["DCI and SAP were not measured: the settings leave them out."]
    train, test = _split_sizes(len(mu), run.settings)
    order = run.rng(3).permutation(len(mu))
    learn, judge = order[:train], order[train : train + test]
    split = prediction.Split(mu[learn], classes.codes[learn], mu[judge], classes.codes[judge])
    varied = (split.codes != split.codes[0]).any(axis=0)
    notes = [
        f"DCI and SAP leave out the factor {factor.name}: it is the same in all images that they learn from."
        for factor, use in zip(classes.factors, varied, strict=True)
        if not use
    ]
    if not varied.any():
        return prediction.DCI(), None, notes
    split = split.columns(varied)
    if mu.shape[1] == 1:
        notes.append("With one dimension DCI's completeness and SAP are not defined.")
    state = run.seed % 2**31  # scikit-learn takes no larger seeds
    sap = prediction.sap(split, state) if mu.shape[1] > 1 else None
    return prediction.dci(split, run.settings.trees, state), sap, notes


def _split_sizes(count: int, settings: Settings) -> tuple[int, int]:
    """Images to learn from and to judge by: the settings' own, or all in the same proportion."""
    if count >= settings.train + settings.test:
        return settings.train, settings.test
    train = round(count * settings.train / (settings.train + settings.test))
    return train, count - train


def _words(settings: Settings, seed: int, count: int | None = None) -> dict[str, float | str]:
    import sklearn

    train, test = _split_sizes(count or 0, settings)
    return {
        "scikit_learn": sklearn.__version__,
        "seed": seed,
        "factor_classes": f"values; {settings.bins} bins of equal count where a number has more values",
        "pairs": "images of the same class, with replacement",
        "accuracy": "on fresh evaluation points (beta-VAE, FactorVAE), on held-out images (DCI, SAP)",
        "training_points": settings.train,
        "evaluation_points": settings.test,
        "images_a_point": settings.batch,
        "factor_vae_dead_standard_deviation": settings.dead,
        "latent_bins_of_equal_width": settings.bins,
        "information_images": min(count or 0, settings.train),
        "training_images": train,
        "test_images": test,
        "dci": f"GradientBoostingClassifier, {settings.trees} rounds",
        "sap": "LinearSVC, C = 0.01, balanced classes",
        "most_classes": settings.max_classes,
    }
