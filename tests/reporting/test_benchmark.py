"""A benchmark as tables."""

import dataclasses
import io

from rich.console import Console

from ngvae_tools.benchmark_record import NOT_RUN, BenchmarkCell, BenchmarkData, BenchmarkRecord, rows_of
from ngvae_tools.reporting.benchmark import markdown, view

MODELS = {
    "vae": {"label": "VAE", "model": "vae", "sigma": 0.245},
    "default": {"label": "NGVAE (our default)", "model": "ngvae", "sigma": 0.245},
    "fondue": {"label": "FONDUE", "model": "vae", "sigma": 0.245},
}
LATENTS = {
    "entropy": 1.8,
    "decorrelation": 5.4,
    "decorrelation_signed": -123456.0,
    "beta_vae": 0.91,
    "factor_vae": 0.8,
    "mig": 0.2,
}
COUNTS = {"count_information": 6.0, "distance": 0.0, "near": 1.0, "mse": 1.07e-3, "seconds": 1234.0}
OF_P = {"rest_p": 0.652, "crisp": 0.93, "agreement": 1.0}


def made(*, failing=()):
    cells = []
    for seed in range(2):
        for k in (15, 30):
            for model in ("vae", "default"):
                name = f"sprites-k{k}-{model}-seed{seed}"
                if (model, seed) in failing:
                    cells.append(BenchmarkCell(name, "sprites", model, k, seed, "training | diverged"))
                    continue
                figures = LATENTS | COUNTS | {"count": 6.0 + seed} | (OF_P if model == "default" else {})
                cells.append(BenchmarkCell(name, "sprites", model, k, seed, None, figures))
        cells.append(BenchmarkCell(f"f{seed}", "sprites", "fondue", None, seed, None, {"count": 9.0, "seconds": 4.0}))
    return BenchmarkRecord(
        preset="quick",
        command="ngvae-tools benchmark --preset quick --output B",
        data=(BenchmarkData("sprites", "/a.h5", "f", 6000, (32, 32, 3), ("x",), (6, 7)),),
        models=MODELS,
        cells=tuple(cells),
        rows=rows_of(cells, MODELS),
        device="cpu",
        timings={},
        versions={"torch": "2.13"},
        notes=("A note.",),
    )


def lines(record, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(view(record))
    return console.export_text().split("\n")


def test_eighty_columns_hold_every_figure():
    shown = lines(made())
    assert max(map(len, shown)) <= 80
    text = "\n".join(shown)
    for part in ("sprites: 6,000 images of 32x32x3, intrinsic dimension 6 to 7; K = 15", "K = 30", "K sought"):
        assert part in text
    for figure in ("1.80", "5.4", "-1.23e+05", "0.91", "0.80", "0.20", "6.5", "1.07e-03", "1234", "0.652", "93 %"):
        assert any(figure in line.split() or figure in line for line in shown), figure
    assert "±0.7" in text
    assert "+0.0" in text
    assert "A note." in text


def test_markdown_is_one_table_a_data_set_and_k():
    text = markdown(made())
    tables = [block for block in text.split("\n\n") if block.startswith("| model")]
    assert len(tables) == 3
    head, rule, vae, ours = tables[0].split("\n")
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    assert len(rule.strip("|").split("|")) == len(columns)
    row = dict(zip(columns, [cell.strip() for cell in ours.strip("|").split("|")], strict=True))
    assert row["model"] == "NGVAE (our default)"
    assert row["noise"] == "0.245"
    assert row["entropy"] == "1.80 ± 0.00"
    assert row["inform. by rule"] == "6.5 ± 0.7"
    assert row["within 1 of known"] == "100 %"
    assert row["held-out MSE"] == "1.07e-03 ± 0.00e+00"
    assert row["MSE over VAE's"] == "1.00"
    assert row["crisp p"] == "93 % ± 0 %"
    assert vae.count("n/a") == 3
    assert "`ngvae-tools benchmark --preset quick --output B` on cpu" in text
    assert "drift" not in head
    assert any("drift" in head for head in tables)
    assert text.endswith("Versions: torch 2.13.\n")


def test_cells_that_failed_are_shown_with_their_reason():
    some = made(failing={("default", 1)})
    for text in (markdown(some), "\n".join(lines(some, 200))):
        assert "1 of 2 failed" in " ".join(text.split())
        assert "1 cell has no result. sprites-k15-default-seed1: training | diverged" in text
        assert "93 %" in text
    every = made(failing={("vae", 0), ("vae", 1)})
    text = markdown(every)
    assert "| VAE (2 of 2 failed) | 0.245 | failed | failed |" in text
    assert "2 cells have no result." in text
    assert "failed" in "\n".join(lines(every))


def test_cells_that_have_not_run_did_not_fail():
    record = made(failing={("vae", 0), ("vae", 1), ("default", 1)})
    cells = [dataclasses.replace(c, failed=NOT_RUN) if c.failed else c for c in record.cells]
    record = dataclasses.replace(record, cells=tuple(cells), rows=rows_of(cells, MODELS))
    text = markdown(record)
    assert "| VAE (2 of 2 not run) | 0.245 | not run | not run |" in text
    assert "(1 of 2 not run)" in text
    assert "failed" not in text
    assert "no result" not in text


def test_a_figure_that_some_trainings_do_not_have():
    record = made()
    cells = [
        dataclasses.replace(c, figures={k: v for k, v in c.figures.items() if k != "mig"}) if c.seed else c
        for c in record.cells
    ]
    partly = dataclasses.replace(record, cells=tuple(cells), rows=rows_of(cells, MODELS))
    assert "| 0.20 (1 of 2) |" in markdown(partly)
    assert "(n of N): the figure is not defined" in markdown(partly)
    assert max(map(len, lines(partly))) <= 80
    assert " of 2)" not in markdown(record)


def test_foreign_text_is_not_obeyed():
    record = made(failing={("vae", 0)})
    hostile = [dataclasses.replace(c, failed="\x1b[31m[bold]") if c.failed else c for c in record.cells]
    record = dataclasses.replace(record, cells=tuple(hostile), rows=rows_of(hostile, MODELS), notes=("\x1b]0;",))
    text = "\n".join(lines(record)) + markdown(record)
    assert "\x1b" not in text
    assert "[bold]" in text
