from collections import OrderedDict
from dataclasses import make_dataclass
from typing import NamedTuple

import pytest
import torch

from exporters.heads import HeadPlan, check_heads, plan_heads
from ngvae_tools.errors import ExportError, OptionError

MU, OTHER = torch.zeros(2, 3), torch.ones(2, 3)


class Named(NamedTuple):
    loc: torch.Tensor
    logvar: torch.Tensor


Record = make_dataclass("Record", ["z_mean", "z_log_var"])


@pytest.mark.parametrize(
    ("result", "options", "plan"),
    [
        ((MU, OTHER), {}, HeadPlan(0, 1, "gaussian")),
        ([MU, OTHER], {}, HeadPlan(0, 1, "gaussian")),
        (MU, {}, HeadPlan(0, None, "deterministic")),
        ((MU,), {}, HeadPlan(0, None, "deterministic")),
        ((MU, OTHER), {"family": "normal-gamma"}, HeadPlan(0, 1, "normal-gamma")),
        ({"logvar": OTHER, "mu": MU, "z": 1}, {}, HeadPlan("mu", "logvar", "gaussian")),
        (OrderedDict(embedding=MU, log_covariance=OTHER), {}, HeadPlan("embedding", "log_covariance", "gaussian")),
        ({"embedding": MU}, {}, HeadPlan("embedding", None, "deterministic")),
        (Named(MU, OTHER), {}, HeadPlan("loc", "logvar", "gaussian")),
        (Record(MU, OTHER), {}, HeadPlan("z_mean", "z_log_var", "gaussian")),
        ({"mean": MU, "p": OTHER}, {"family": "normal-gamma-mixture"}, HeadPlan("mean", "p", "normal-gamma-mixture")),
        ({"mu": MU, "p": OTHER, "logvar": OTHER}, {}, HeadPlan("mu", "logvar", "gaussian")),
        ({"mu": MU, "p": OTHER, "logvar": OTHER}, {"family": "normal-gamma"}, HeadPlan("mu", "p", "normal-gamma")),
        ({"mu": MU, "std": OTHER}, {"family": "deterministic"}, HeadPlan("mu", None, "deterministic")),
        ((OTHER, MU, OTHER), {"heads": (1, 2)}, HeadPlan(1, 2, "gaussian")),
        ((OTHER, MU, OTHER), {"heads": [1]}, HeadPlan(1, None, "deterministic")),
        ({"a": MU, "b": OTHER}, {"heads": ("b", "a")}, HeadPlan("b", "a", "gaussian")),
    ],
)
def test_the_heads_are_found(result, options, plan):
    found = plan_heads(result, options.get("heads"), options.get("family"))
    assert found == plan
    picked = found.pick(result)
    assert len(picked) == (1 if plan.second is None else 2)


@pytest.mark.parametrize(
    ("result", "options", "words"),
    [
        ((OTHER, MU, OTHER), {}, r"heads=\(0, 1\)"),
        ((), {}, "found nothing"),
        ({}, {}, "found nothing"),
        ({"mu": MU, "std": OTHER}, {}, r"found mu \(shape \(2, 3\)\), std"),
        ({"mu": MU, "mean": MU, "logvar": OTHER}, {}, "one output named mu"),
        ({"features": MU}, {}, "one output named mu"),
        ({3: MU, 4: OTHER}, {}, "one output named mu"),
        ({"mu": MU, "p": OTHER}, {}, "family='normal-gamma' or family='normal-gamma-mixture'"),
        ({"mu": MU, "logvar": OTHER}, {"family": "normal-gamma"}, "one output named mu"),
        (MU, {"family": "gaussian"}, "mu and a second head for family='gaussian'"),
        ((MU, OTHER), {"family": "deterministic"}, "mu alone"),
        ((MU, OTHER), {"heads": (0, 2)}, "a head 2"),
        (torch.distributions.Normal(MU, OTHER), {}, "found a Normal"),
        ("text", {}, "found a str"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(result, options, words):
    with pytest.raises(ExportError, match=words):
        plan_heads(result, options.get("heads"), options.get("family"))


@pytest.mark.parametrize("options", [{"family": "laplace"}, {"heads": "mu"}, {"heads": ()}, {"heads": (0, 0)}])
def test_bad_options_are_refused(options):
    with pytest.raises(OptionError):
        plan_heads((MU, OTHER), options.get("heads"), options.get("family"))


def test_heads_are_tensors_of_one_shape():
    check_heads([MU, OTHER], 2)
    check_heads([torch.zeros(2, 3, 4, 5)] * 2, 2)
    for heads in (
        [MU, torch.zeros(2, 4)],
        [torch.zeros(2)],
        [torch.zeros(2, 3, 4)],
        [torch.zeros(2, 0)],
        [MU, "logvar"],
    ):
        with pytest.raises(ExportError, match="heads of one shape"):
            check_heads(heads, 2)
    with pytest.raises(ExportError, match=r"found shape \(2, 3\)"):
        check_heads([MU], 3)
