"""How well single dimensions stand for known factors, on any table of labelled images.

The definitions are those of disentanglement_lib (Locatello et al. 2019), on a finite table instead of a generator:
images that share a factor's class are paired, and the factors need not form a grid. Public libraries disagree;
our choices, which every result repeats in its `settings`:

- beta-VAE metric: accuracy on fresh evaluation points, not on the training points; no scaling of the features;
  two different images are paired. Rereadings of the paper that hold one value over the whole batch differ.
- FactorVAE: dimensions with a standard deviation below 0.05 are dropped. disentanglement_lib's own default of 0
  drops none, and a dead dimension's noise then votes.
- MIG: 20 bins of equal width from the smallest to the largest mean, entropies in nats, no correction for the
  bias of counts. Quantile bins, other counts of bins or samples of the posterior give other values. With one
  dimension the second largest information is 0.
- DCI: gradient boosting with scikit-learn's defaults, importances of the training points, accuracy on held-out
  images. Lasso and random forests (the paper's own) give other values, and versions of scikit-learn differ in the
  last digits. Disentanglement needs two factors, completeness two dimensions.
- SAP: accuracies of linear support vector machines on classes; the variant with R^2 for continuous factors is not
  used. scikit-learn solves the primal since 1.5; the dual of older versions may stop short of the optimum.
- Modularity: a dimension that shares no information counts 0, as in disentanglement_lib. The bias of counts gives
  every dead but not constant dimension a little information about every factor, hence a value near 0 too.
- Continuous and circular factors with more than 20 values are cut into 20 bins of equal count. The reference
  knows only classes: dSprites' 40 orientations are 40 classes there and 20 arcs here.
"""

from ngvae_tools.analysis.disentanglement.metrics import supervised
from ngvae_tools.analysis.disentanglement.settings import Settings

__all__ = ["Settings", "supervised"]
