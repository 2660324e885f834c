"""Progress bars show up on a terminal's standard error and nowhere else."""

import io
import sys

from fastcifar.show.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_said_where_nobody_looks(capsys):
    assert list(track(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


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
