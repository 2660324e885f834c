"""Progress on standard error: bars on a terminal, a line every 30 seconds elsewhere."""

import io
import sys

import pytest
from support.markup import MARKUP

from fastcifar.show import progress
from fastcifar.show.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_said_of_short_work_where_nobody_looks(capsys):
    assert list(track(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_where_nobody_looks_there_is_a_line_every_thirty_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for _ in track(range(10), "counting"):
        now[0] += 20
    assert capsys.readouterr().err.splitlines() == [
        "counting: 20 %, about 3 min left", "counting: 40 %, about 2 min left", "counting: 60 %, about 80 s left",
        "counting: 80 %, about 40 s left", "counting: 100 %, about 0 s left",
    ]  # fmt: skip
    for _ in track(iter(range(2)), "reading"):
        now[0] += 31
    assert capsys.readouterr().err.splitlines() == ["reading: 31 s so far", "reading: 62 s so far"]


def test_a_line_that_must_be_written_is_written_and_starts_the_interval_anew(monkeypatch):
    now, written = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    sparse = progress.Sparse(written.append)
    for second in (1, 29, 31, 60, 62):
        now[0] = second
        sparse.line(lambda second=second: f"{second}", now=second == 29)
    assert written == ["29", "60"]


def test_a_terminal_gets_a_bar_on_standard_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(track(iter(["ab", "c"]), "counting", total=3, size=len)) == ["ab", "c"]
    assert "counting" in sys.stderr.getvalue()
    assert "100%" in sys.stderr.getvalue()
    assert capsys.readouterr().out == ""


def test_a_bar_left_early_is_taken_down(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in track(range(5), "counting"):
        break
    assert list(track(range(5), "again")) == list(range(5))  # rich allows one live bar at a time


@pytest.mark.parametrize("text", [text for text in MARKUP if text.isprintable()])
def test_a_description_is_text(monkeypatch, text):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "200")
    assert list(track(range(2), f"hashing {text}")) == [0, 1]
    assert f"hashing {text}" in sys.stderr.getvalue()
