"""What `report` prints, by real processes: nothing but the form asked for, plain where it is piped."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

import pytest
import records as build
from markdown_it import MarkdownIt

from ngvae_tools.record import AnalysisRecord

COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def two(tmp_path):
    build.write_analysis(tmp_path / "one", build.analysis(full=True))
    build.write_analysis(tmp_path / "two", build.analysis(64, 11, seed=1))
    build.write_run(tmp_path / "run")


def on_terminal(command_line, *words, columns=80, rows=24):
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with command_line.under(TERM="xterm-256color").start(
        *words, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        parts = []
        while part := _read(ours):
            parts.append(part)
        os.close(ours)
    assert process.returncode == 0
    return b"".join(parts).decode()


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""


def test_piped_it_is_plain_and_fits_80_columns(command_line, two):
    found = command_line.under(TERM="xterm-256color")("report", "one", "two", "run", "--every", "--samples")
    assert found.returncode == 0
    assert "\x1b" not in found.stdout + found.stderr
    assert max(len(line) for line in found.stdout.splitlines()) <= 80


@pytest.mark.parametrize("columns", [80, 60])
def test_on_a_terminal_it_has_style_and_fits(command_line, two, columns):
    shown = on_terminal(command_line, "report", "one", "two", "run", columns=columns)
    assert COLOUR.search(shown)
    assert max(len(COLOUR.sub("", line)) for line in shown.splitlines()) <= columns


def test_json_is_the_record(command_line, two, tmp_path):
    alone = command_line("report", "one", "--json")
    assert alone.stdout == (tmp_path / "one/selection.json").read_text()
    assert AnalysisRecord.from_json(alone.stdout) == AnalysisRecord.read(tmp_path / "one")
    several = json.loads(command_line("report", "one", "two", "run", "--json").stdout)
    for name, entry in zip(("one", "two"), several["analyses"], strict=True):
        assert AnalysisRecord.from_json(json.dumps(entry["record"])) == AnalysisRecord.read(tmp_path / name)


def test_markdown_goes_to_stdout_alone(command_line, two):
    found = command_line.under(LC_ALL="C", PYTHONUTF8="0")("report", "one", "two", "run", "--markdown")
    assert found.returncode == 0
    assert found.stdout.startswith("### Comparison of 2 analyses\n")
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(found.stdout)
    assert sum(token.type == "table_open" for token in tokens) == 6
    assert "Next: " in found.stderr
    assert command_line("report", "one", "--markdown", "-q").stderr == ""


def test_json_and_markdown_do_not_mix(commands, two):
    found = commands("report", "one", "--json", "--markdown")
    assert (found.returncode, found.stdout) == (2, "")
    assert "expected one of them, found both" in found.stderr
