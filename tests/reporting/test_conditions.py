import dataclasses
import re
from pathlib import Path

import pytest
import records as build

from ngvae_tools.analysis.selection import RULES
from ngvae_tools.analysis.stability import stability_of
from ngvae_tools.errors import ConditionError, OptionError
from ngvae_tools.record import Reconstruction
from ngvae_tools.reporting.conditions import OPERATORS, check, parse
from ngvae_tools.reporting.quantities import ANALYSIS, MEANINGS, RULE_NAMES, RUN, STABILITY
from ngvae_tools.reporting.sources import NamedAnalysis, NamedRun, Sources, open_sources
from ngvae_tools.run import RunRecord

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def analyses(*records):
    return Sources(tuple(NamedAnalysis(f"model-{k}", Path(f"m{k}"), record) for k, record in enumerate(records)))


def message(sources, *conditions):
    with pytest.raises(ConditionError) as caught:
        check([parse(text) for text in conditions], sources)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("informative > 10", ("informative", ">", 10.0)),
        ("psnr<30", ("psnr", "<", 30.0)),
        ("  total_correlation >=  .5 ", ("total_correlation", ">=", 0.5)),
        ("run.loss <= -1.5e3", ("run.loss", "<=", -1500.0)),
        ("informative.low == +7.", ("informative.low", "==", 7.0)),
        ("informative != 7", ("informative", "!=", 7.0)),
    ],
)
def test_grammar(text, expected):
    found = parse(text)
    assert (found.name, found.sign, found.number) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "help", "informative", "informative >", "> 3", "informative > nan", "informative > inf",
        "informative = 3", "informative => 3", "informative > 3 or 1", "3 < informative", "informative > rejected",
        "informative > 0x3", "informative > \u0663", "__import__('os').system('true') > 1", "informative > 1_000",
        "informative > 3\x1b[31m", "informative > 1e999", "unknown > 3", "Informative > 3",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    with pytest.raises(OptionError) as caught:
        parse(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("informative = 6", "found =; write ==, as in 'informative == 6'."),
        ("mig=>.5", "found =>; write >=, as in 'mig >= .5'."),
        ("informtive = 3", "found 'informtive'; did you mean informative or "),
        ("PSNR > 3", "; did you mean psnr? ngvae-tools report --fail-if help lists the names."),
        ("zzzzzzzzzz > 3", "found 'zzzzzzzzzz'; ngvae-tools report --fail-if help lists the names."),
    ],
)  # fmt: skip
def test_what_was_meant_is_said(text, said):
    with pytest.raises(OptionError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 240


def test_help_lists_every_name_with_its_meaning(commands):
    found = commands("report", "--fail-if", "help")
    assert (found.returncode, found.stderr) == (0, "")
    assert dict(line.split(maxsplit=1) for line in found.stdout.splitlines()) == MEANINGS


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("count", [6, 7, 8])
def test_operators(sign, count):
    sources = analyses(build.analysis(15, count))
    expected = {"<": count < 7, "<=": count <= 7, "==": count == 7, "!=": count != 7, ">": count > 7, ">=": count >= 7}
    condition = [parse(f"informative {sign} 7")]
    if expected[sign]:
        with pytest.raises(ConditionError):
            check(condition, sources)
    else:
        check(condition, sources)


def test_values_are_the_records():
    record = build.analysis(full=True, rejected=60)
    record = dataclasses.replace(record, reconstruction=Reconstruction("d", 10, 31.25, 31.5, 45.0, 0.9, 0.91, 0.99))
    images = 5940
    expected = {
        "informative": 7,
        "informative.low": 7,
        "informative.high": 8,
        **{f"informative.{rule.rule}": rule.count for rule in record.rules},
        "latent_dim": 15,
        "images": images,
        "rejected": 60,
        "rejected_share": 0.01,
        **dataclasses.asdict(record.metrics),
        "intrinsic_dimension": record.intrinsic_dimension.two_nn,
        "intrinsic_dimension.ml": record.intrinsic_dimension.maximum_likelihood,
        "knee": 7,
        "reconstruction_error": record.truncation.by_relevance.error[15],
        "psnr": 31.25,
        "ssim": 0.9,
        "psnr_quantisation": 45.0,
        **{name: getattr(record.supervised, name) for name in ("beta_vae", "factor_vae", "mig", "sap", "modularity")},
        **{f"dci_{name}": getattr(record.supervised, f"dci_{name}") for name in ("disentanglement", "completeness")},
        "dci_informativeness": record.supervised.dci_informativeness,
        "bytes": 61_234,
        "bytes_per_image": 61_234 / images,
        "smaller_than_raw": 3072 / (61_234 / images),
        "smaller_than_png": 811.5 / (61_234 / images),
        "smaller_than_jpeg": 702.25 / (61_234 / images),
        "images_per_second": 480.0,
    }
    assert {name: quantity.of(record) for name, quantity in ANALYSIS.items()} == pytest.approx(expected)
    assert {rule.rule for rule in record.rules} == set(RULE_NAMES) == set(RULES)


def test_values_of_runs(tmp_path):
    run = RunRecord.read(build.write_run(tmp_path / "run"))
    last = run.epochs[-1]
    found = {name: quantity.of(run) for name, quantity in RUN.items()}
    for name in ("loss", "distortion", "rate", "mse"):
        assert found[f"run.{name}"] == getattr(last.train, name)
        assert found[f"run.held_out_{name}"] == getattr(last.held_out, name)
    rest = {name: found[f"run.{name}"] for name in ("epochs", "finished", "diverged", "informative", "seconds")}
    assert rest == {"epochs": 30, "finished": True, "diverged": False, "informative": 7, "seconds": 30 * 3.25}


def test_values_of_several():
    together = stability_of([("a", (0, 1, 2)), ("b", (0,)), ("c", (0, 1))], [], [])
    assert STABILITY["stability.spread"].of(together) == 2
    sources = dataclasses.replace(analyses(build.analysis(), build.analysis(seed=1)), stability=together)
    assert "stability.spread > 1 holds for the analyses together, where stability.spread is 2" in message(
        sources, "stability.spread > 1"
    )
    check([parse("stability.spread > 2")], sources)
    assert "stability.udr < 0 cannot be checked" in message(sources, "stability.udr < 0")


def test_any_analysis_counts_and_the_message_says_which():
    sources = analyses(build.analysis(15, 7), build.analysis(15, 12, seed=1), build.analysis(15, 11, seed=2))
    said = message(sources, "informative > 10", "informative < 3", "latent_dim == 15")
    assert "informative > 10 holds for model-1, where informative is 12; informative > 10 holds for model-2" in said
    assert "informative > 10 holds for model-0" not in said
    assert "informative < 3" not in said
    assert said.count("latent_dim == 15 holds") == 3


def test_values_are_said_in_full():
    record = build.analysis()
    assert repr(record.metrics.total_correlation) in message(analyses(record), "total_correlation > 0")


def test_what_cannot_be_checked_does_not_pass(tmp_path):
    plain = analyses(build.analysis(family="gaussian"))
    for text, why in (
        ("psnr < 30", "select-latents --verify"),
        ("mig < 0", "labels"),
        ("knee > 100", "select-latents --decoder"),
        ("informative.low < 0", "--bootstrap"),
        ("informative.p > 100", "does not apply"),
        ("run.loss > 1e300", "no training run was named"),
        ("stability.spread > 100", "it takes several analyses"),
    ):
        said = message(plain, text)
        assert f"{text} cannot be checked" in said
        assert why in said
    single = analyses(build.analysis(1, 1))
    assert "decorrelation < 0 cannot be checked of model-0" in message(single, "decorrelation < 0")
    unreadable = dataclasses.replace(plain, skipped=("The analysis in x was left out: why.",))
    assert "no condition can be checked of what was left out: The analysis in x" in message(
        unreadable, "informative > 100"
    )
    check([], unreadable)


def test_a_loss_that_is_no_number_does_not_pass(tmp_path):
    run = RunRecord.read(build.write_run(tmp_path / "run"))
    last = run.epochs[-1]
    broken = dataclasses.replace(last, train=dataclasses.replace(last.train, loss=float("nan")))
    run = dataclasses.replace(run, epochs=(*run.epochs[:-1], broken))
    said = message(Sources(runs=(NamedRun("run", tmp_path, run),)), "run.loss > 5")
    assert "run.loss > 5 cannot be checked of run, where run.loss has no value (it is not a number)" in said


def test_equal_images_have_an_infinite_psnr():
    equal = Reconstruction("d", 10, None, 31.5, None, 1.0, 0.91, 1.0)
    sources = analyses(dataclasses.replace(build.analysis(), reconstruction=equal))
    check([parse("psnr < 30")], sources)
    assert "psnr > 30 holds for model-0, where psnr is inf" in message(sources, "psnr > 30")


def test_readme_lists_every_name_with_its_meaning():
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.+?) \|$", README, re.MULTILINE))
    assert {name: rows.get(name) for name in MEANINGS} == MEANINGS


def test_command_line(commands, tmp_path):
    build.write_analysis(tmp_path / "out", build.analysis(15, 7, full=True))
    found = commands("report", "out", "--fail-if", "informative > 10", "--fail-if", "rejected > 0")
    assert (found.returncode, found.stderr) == (0, "Next: ngvae-tools report out --html report.html\n")
    for option, written in (("--json", (tmp_path / "out/selection.json").read_text()), ("--markdown", "### 7 of 15")):
        found = commands("report", "out", option, "-q", "--html", f"page{option}.html", "--fail-if", "informative>6")
        assert found.returncode == 5
        assert found.stdout.startswith(written)
        assert (tmp_path / f"page{option}.html").read_text().endswith("</html>\n")
        assert found.stderr == (
            "Error: a condition of --fail-if holds or cannot be checked: expected none, found informative>6 holds for "
            "out, where informative is 7; everything asked for was written all the same.\n"
        )
    found = commands("report", "out", "--html", "never.html", "--fail-if", "informativ > 10")
    assert found.returncode == 2
    assert not (tmp_path / "never.html").exists()
    assert open_sources([tmp_path / "out"]).analyses[0].record.selection.count == 7
