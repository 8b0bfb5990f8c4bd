"""How sentences come out on stderr: broken at words on a terminal, one line each elsewhere."""

import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
from types import SimpleNamespace

import pytest
import typer

from ngvae_tools.cli.terminal import Terminal, guarded
from ngvae_tools.errors import OptionError

PATH = "/data/" + "a-long-name-" * 8 + "of:cat:images"
SENTENCE = f"The images in {PATH} are what a sentence of more than forty characters speaks of, and of nothing else."


def say_all():
    terminal = Terminal(SimpleNamespace(obj=None), quiet=False, log_file=None)
    terminal.say(SENTENCE)
    terminal.next("report", PATH, "--html", "report.html", "--fail-if", "informative > 6")
    for error in (OptionError(SENTENCE, expected="a", found="b", remedy="c"), KeyboardInterrupt(SENTENCE)):

        @guarded
        def fail(error=error):
            raise error

        with pytest.raises(typer.Exit):
            fail()


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Run a function with stderr on a terminal so wide; what came out."""

    def run(function, columns):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with os.fdopen(theirs, "w", encoding="utf-8") as err, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", err)
            function()
        said = b""
        with contextlib.suppress(OSError):  # the end of what was written
            while part := os.read(ours, 2**16):
                said += part
        os.close(ours)
        return said.decode().replace("\r\n", "\n")

    return run


def test_a_terminal_gets_no_broken_word(on_a_terminal):
    said = on_a_terminal(say_all, 40)
    following = f"Next: ngvae-tools report {PATH} --html report.html --fail-if 'informative > 6'"
    lines = said.splitlines()
    assert following in lines
    assert all(len(line) <= 40 or line in {PATH, following} for line in lines)
    assert lines.count(PATH) == 3
    assert (
        said.split()
        == f"{SENTENCE} {following} Error: {SENTENCE}: expected a, found b; c. Interrupted: {SENTENCE}.".split()
    )


def test_a_terminal_that_does_not_know_its_size_gets_lines_as_they_are(on_a_terminal):
    assert SENTENCE in on_a_terminal(say_all, 0).splitlines()


def test_a_pipe_gets_one_line_each(capsys):
    say_all()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["The", "Next:", "Error:", "", "Interrupted:"]
    assert lines[0] == SENTENCE
