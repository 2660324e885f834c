"""The width of the output: COLUMNS, a terminal, a pipe; and the line that names the next command."""

import fcntl
import io
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios

import pytest
from rich.console import Console
from rich.progress import Progress
from support import ROOT

from fastcifar.show import console
from fastcifar.show.console import WIDEST, next_step, note, say

PRINTS = (
    "from fastcifar.show.columns import Column, Fitted\nfrom fastcifar.show.console import console, say\n"
    "console({wide}).print(Fitted([Column('name', ['word-' * 20], False), Column('n', ['1'])]))\n"
    "say('a sentence ' * 12 + '/a/path/' + 'long' * 30)\n"
)


def printed(wide=False, columns=None):
    environment = {**os.environ, "COLUMNS": columns or ""}
    if columns is None:
        del environment["COLUMNS"]
    code = PRINTS.format(wide=wide)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    ).stdout.splitlines()


def test_lines_of_a_pipe_are_whole():
    *_, row, sentence = printed()
    assert row.startswith("word-" * 20)
    assert sentence.startswith("a sentence a sentence")


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("60", 60), ("0", WIDEST), ("many", WIDEST)])
def test_columns_is_honoured_for_tables(columns, width):
    *rows, sentence = printed(columns=columns)
    assert max(map(len, rows)) <= width
    assert (len(rows) > 3) == (width < WIDEST)
    assert len(sentence) > 200, "sentences are folded on terminals alone"
    assert len(printed(wide=True, columns=columns)) == 4


def test_a_terminal_folds_tables_and_sentences_between_words():
    own, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    process = subprocess.Popen(
        [sys.executable, "-c", PRINTS.format(wide=False)], stdout=other, cwd=ROOT, env=environment | {"TERM": "dumb"}
    )
    assert process.wait(60) == 0
    os.close(other)
    text = os.read(own, 1 << 16).decode()
    os.close(own)
    lines = text.replace("\r", "").splitlines()
    *folded, path = lines
    assert max(map(len, folded)) <= 70
    assert path == "/a/path/" + "long" * 30, "a path stays whole"
    assert all(set(line.split()) <= {"a", "sentence"} for line in folded[-2:])


def test_brackets_and_colons_are_printed_as_they_are(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "0")
    say("[red]:smile: 12")
    assert capsys.readouterr().out == "[red]:smile: 12\n"


def test_the_next_command_is_quoted_and_on_one_line_of_stderr(capsys, monkeypatch):
    monkeypatch.setattr(console, "_terminal_width", lambda stream: 20)
    monkeypatch.setattr(console, "command_name", lambda: "fastcifar")
    words = ["train", "--data", "my data/it's", "--set", "recipe=a,b=1"]
    next_step(*words)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("next: fastcifar train ")
    assert shlex.split(err.removeprefix("next: ")) == ["fastcifar", *words]


def test_nothing_is_printed_into_the_line_of_a_progress_bar(monkeypatch):
    """What is printed while a bar is shown stands on a line of its own, above the bar."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(console=Console(stderr=True, force_terminal=True, width=60), auto_refresh=False) as progress:
        progress.add_task("a bar", total=2)
        progress.refresh()
        note("a message")
        next_step("runs")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())  # without colours
    for line in ("a message", r"next: \S+ runs"):  # at the begin of a line, or where the bar was erased
        assert re.search(rf"(?:\n|\r|\x1b\[2K){line}\n", plain), plain
