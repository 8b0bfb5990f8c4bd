import dataclasses
import re

import pytest
import records as build

from ngvae_tools.reporting.watching import Glance, epoch_line, lines, sentence
from ngvae_tools.run import RunRecord


def glance(folder, *, dim=15, number=20, holder="process 7 on here", finished=False, options=None, **more):
    history = build.epochs(number, dim, min(7, dim), **more)
    config = {"options": {"epochs": 30, "max_epochs": 200} | (options or {})}
    return Glance(folder, RunRecord.read(build.write_run(folder, history, finished=finished, config=config)), holder)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 24), (20, 10), (200, 60), (3, 2), (1, 1)])
@pytest.mark.parametrize("dim", [1, 15, 200])
@pytest.mark.parametrize("more", [{}, {"gaussian": True, "held_out": False}, {"number": 1}, {"number": 0}])
def test_it_fits(width, height, dim, more, tmp_path):
    shown = lines(glance(tmp_path / "run", dim=dim, **more), width, height)
    assert len(shown) <= height
    assert max(map(len, shown)) <= width


@pytest.mark.parametrize("height", [16, 24, 100])
def test_every_dimension_is_shown_or_counted_informative_first(height, tmp_path):
    seen = glance(tmp_path / "run", dim=200)
    last = seen.epochs[-1]
    shown = lines(seen, 80, height)
    start = next(i for i, line in enumerate(shown) if line.startswith("p of each dimension"))
    cells = [cell for line in shown[start + 1 :] if "others" not in line for cell in split(line)]
    left = int(shown[-1].split()[0]) if "others" in shown[-1] else 0
    assert len(cells) + left == 200
    chosen = [k for k in range(200) if last.p[k] < 0.5]
    marked = [k for k, mark, _ in cells if mark]
    assert [k for k, _, _ in cells[: len(marked)]] == marked == chosen[: len(marked)]
    assert all(f"{last.p[k]:.3f}" == value for k, _, value in cells)
    if len(marked) < len(chosen):
        assert f"{len(chosen) - len(marked)} of them informative" in shown[-1]


def split(line):
    """(dimension, mark, value) of each cell of a line."""
    return [(int(k), mark == "*", value) for mark, k, value in re.findall(r"([* ]) +(\d+) [▁-█]+ +([\d.]+)", line)]


def test_figures_pace_and_time_left(tmp_path):
    seen = glance(tmp_path / "run")
    last = seen.epochs[-1]
    text = "\n".join(lines(dataclasses.replace(seen, idle=1.25), 80, 40))
    for name, digits in (("loss", 2), ("distortion", 2), ("rate", 2), ("mse", 5)):
        assert f"{getattr(last.train, name):.{digits}f}" in text
        assert f"{getattr(last.held_out, name):.{digits}f}" in text
    assert f"{last.informative} of 15" in text
    assert "epoch 21 of 30, 3.2 s an epoch, 0:00:31 left" in text  # 10 epochs of 3.25 s less 1.25 s
    assert "learning rate 0.0001, lowered after epoch 13" in text
    assert "Process 7 on here" in text
    done = glance(tmp_path / "done", number=30)
    assert "all 30 epochs done, exporting, 3.2 s an epoch" in lines(done, 80, 40)
    free = glance(tmp_path / "free", options={"epochs": None})
    assert "epoch 21 of at most 200, 3.2 s an epoch, at most 0:09:45 left" in "\n".join(lines(free, 80, 40))
    fast = dataclasses.replace(
        seen,
        record=dataclasses.replace(
            seen.record, epochs=tuple(dataclasses.replace(e, seconds=0.25) for e in seen.epochs)
        ),
    )
    assert "4 epochs/s" in "\n".join(lines(fast, 80, 40))


def test_states(tmp_path):
    nothing = Glance(tmp_path, None, None)
    assert (nothing.state, lines(nothing, 200, 9)) == ("waiting", [sentence(nothing)])
    running = glance(tmp_path / "run")
    assert running.state == "training"
    assert glance(tmp_path / "done", finished=True).state == "finished"
    gone = dataclasses.replace(running, holder=None)
    assert gone.state == "stopped"
    diverged = dataclasses.replace(gone, record=dataclasses.replace(gone.record, diverged="in epoch 3: nan"))
    assert diverged.state == "diverged"
    assert sentence(diverged).endswith("has diverged after 20 epochs: in epoch 3: nan.")


def test_hostile_names_and_losses_that_are_no_numbers(tmp_path):
    seen = glance(tmp_path / "run [red]\x1b[31m", holder="process \x1b]0;x\x07 on [bold]")
    last = seen.epochs[-1]
    broken = dataclasses.replace(last, train=dataclasses.replace(last.train, loss=float("nan")))
    seen = dataclasses.replace(seen, record=dataclasses.replace(seen.record, epochs=(*seen.epochs[:-1], broken)))
    text = "".join(lines(seen, 300, 40))
    assert text.isprintable()
    assert "nan" in epoch_line(broken)


def test_without_p_the_posterior_variance_is_shown(tmp_path):
    assert any(
        line.startswith("posterior variance of each dimension")
        for line in lines(glance(tmp_path / "run", gaussian=True), 80, 24)
    )
