"""The sentences that limit a verdict."""

import numpy as np
import pytest

from ngvae_tools.analysis.selection import select
from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.posteriors import NormalGammaMixturePosterior
from ngvae_tools.workflows.verdict import notes_on

FAMILY = NormalGammaMixturePosterior(3.65, (0.24,) * 3)


def notes(p):
    p = np.array(p)
    statistics = LatentStatistics.of(FAMILY.posterior(np.zeros_like(p), p), p)
    return notes_on(FAMILY, statistics, (select(statistics, "p", 0.5),))


def test_a_clear_verdict_needs_no_note():
    assert notes([[0.0, 0.01, 0.65], [0.0, 0.02, 0.65]]) == []


def test_a_dimension_near_the_threshold_is_named():
    (note,) = notes([[0.0, 0.47, 0.65], [0.0, 0.46, 0.65]])
    assert note.startswith("Dimension 1 lies within 0.05 of the threshold")


def test_too_few_dimensions_are_suspected():
    (note,) = notes([[0.0, 0.01, 0.1], [0.0, 0.02, 0.1]])
    assert "larger --latent-dim" in note


@pytest.mark.parametrize(("other", "said"), [(0.1, False), (1.0, True)])
def test_a_p_that_differs_between_images_is_named(other, said):
    found = notes([[0.0, 0.0, 0.65], [other, 0.0, 0.65], [0.0, 0.0, 0.65], [0.0, 0.0, 0.65]])
    assert any("informative for some images only" in note for note in found) == said
