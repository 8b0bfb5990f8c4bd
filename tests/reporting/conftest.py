import dataclasses

import pytest
import records as build

from ngvae_tools.record import RejectionReason
from ngvae_tools.reporting.html import page
from ngvae_tools.reporting.sources import open_sources

HOSTILE = "<img src=x onerror=alert(1)> [red]$x^{"

MIXED = {
    "n_images": 502,
    "n_train": 420,
    "rejected": [
        {"id": "broken.png", "reason": "cannot be decoded: no end"},
        *(
            {"id": f"{k}.tif", "reason": "is of type uint16 where uint8 is expected: height 8; advice"}
            for k in range(80)
        ),
        {"id": HOSTILE, "reason": HOSTILE},
    ],
}
"""What config.json says of a folder with images of two types."""


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Two comparable analyses, K = 1 with nulls, K = 64, a hostile one, and two runs."""
    tmp_path = tmp_path_factory.mktemp("many")
    nasty = build.analysis(
        4, 2, family="</svg><script>alert(1)</script>", notes=(f"{HOSTILE} \x1b[31m \udc80",), seed=7, full=True
    )
    nasty = dataclasses.replace(
        nasty,
        rules=tuple(dataclasses.replace(rule, rule=f"{HOSTILE}{rule.rule}") for rule in nasty.rules),
        truncation=dataclasses.replace(nasty.truncation, decoder=f"{HOSTILE} \x1b[31m"),
        supervised=dataclasses.replace(
            nasty.supervised,
            source=HOSTILE,
            notes=(f"{HOSTILE} \x1b[31m",),
            settings={HOSTILE: HOSTILE},
            factors=tuple(dataclasses.replace(f, name=f"{HOSTILE} \x1b[31m") for f in nasty.supervised.factors),
        ),
    )
    wide = dataclasses.replace(
        build.analysis(64, 11, seed=4, full=True, rejected=60),
        rejections=(RejectionReason(f"holds {HOSTILE}", 59, f"{HOSTILE} \x1b[31m \udc80"),),
    )
    return open_sources(
        [
            build.write_analysis(tmp_path / "one" / "selection", build.analysis(full=True)),
            build.write_analysis(
                tmp_path / "two" / "selection", build.analysis(family="gaussian", informative=9, seed=1)
            ),
            build.write_analysis(tmp_path / "single", build.analysis(1, 1)),
            build.write_analysis(tmp_path / "wide", wide),
            build.write_analysis(tmp_path / HOSTILE, nasty),
            build.write_run(
                tmp_path / "one" / "run",
                config={
                    HOSTILE: HOSTILE,
                    "data": MIXED,
                    "options": {"sigma": 0.245, "device": "auto"},
                    "identity": {"sigma": 0.245, "device": "cpu"},
                },
            ),
            build.write_run(tmp_path / "two" / "run", build.epochs(gaussian=True, held_out=False), finished=False),
        ]
    )


@pytest.fixture(scope="session")
def many_page(many):
    return page(many)


@pytest.fixture
def alone(tmp_path):
    return open_sources([build.write_analysis(tmp_path / "selection", build.analysis(rejected=3))])
