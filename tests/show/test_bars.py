"""Bars in a terminal."""

import io
import sys

from fastcifar.show.bars import BAR, bars


def test_the_longest_bar_is_of_the_largest_number_and_none_has_no_bar():
    lines = bars({"one": 50.4, "two": 100.0, "none": None, "little": 0.001}).splitlines()
    assert [line.count("█") for line in lines] == [BAR // 2, BAR, 0, 1]
    assert lines[0].split()[:2] == ["one", "50"]
    assert lines[2].split() == ["none", "none"]


def test_without_a_number_there_is_no_bar():
    assert bars({"one": None}).split() == ["one", "none"]
    assert bars({"one": 0.0}).split()[:2] == ["one", "0"]


def test_an_encoding_without_blocks(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert bars({"one": 3.0}).count("#") == BAR
