"""The tables of a benchmark at every width, and the sentences below them."""

import pytest
from support.throughput import OUT, made
from support.widths import WIDTHS, readable, render

from fastcifar.pipeline import pipeline_names
from fastcifar.throughput.table import HeatTable, caption, heats_of, named, reasons, shared

LOADER = "bench/rivals/airbench.py:airbench94"
FASTEST = 9_876_543.0


def heat(**other):
    """Return a heat with the longest names and with numbers of seven digits."""
    names = [*pipeline_names(), LOADER]
    unlike = [{}, {"verified": False, "reason": "it draws its own numbers"}, {"max_abs_dev": 1e-6}]
    unlike += [{"max_abs_dev": 0.4, "pixels_apart": 2.2e-6}, OUT]
    rows = [
        made(name, [FASTEST - n, FASTEST - n - 1_234_567]) | unlike[n % len(unlike)] for n, name in enumerate(names)
    ]
    big = {"peak_host_bytes": 1.23e10, "cpu_seconds_per_million": 12_345.6, "gap_p99_seconds": 12.3}
    return [row | (big if row["images_per_s"] else {}) | other for row in rows]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("other", [{}, {"model": "resnet18", "stall": 0.123}], ids=["alone", "training"])
def test_what_matters_can_be_read_at_every_width(width, other):
    rows = heat(**other)
    words = ["pipeline", "images/s", "of the fastest", "pixels", "9,259,260", "100.0%", "equal", "NOT VERIFIED", "none"]
    words += [
        "0.00022 % differ",
        "see below",
        *pipeline_names(),
        *(["stall", "12.3%"] if other else []),
    ]
    text = render(HeatTable(rows, named(rows[0], {})), width)
    readable(text, words)
    words = set(text.split())
    assert "airbench.py:airbench94" in words or {"airbench.py:", "airbench94"} <= words
    assert ("8,641,976-9,876,543" in text) == (width >= (100 if other else 80))
    assert ("12,345.6" in text) == (width >= 160)


def test_a_wide_table_has_all_columns():
    text = render(HeatTable(heat(), "none"), 200)
    readable(text, ["range of images/s", "first batch, s", "MB", "12,300", "CPU s a million", "99 % of gaps, ms"])
    readable(text, ["12,300.0", "of memory's speed", "10.0%", "others' cores", "0.0"])


def test_loaders_are_named_without_their_folders_unless_two_are_the_same():
    rows = [made(LOADER, [2.0]), made("bench/other.py:make", [1.0])]
    assert HeatTable(rows, "").columns()[0].cells == ["airbench.py:airbench94", "other.py:make"]
    rows.append(made("mine/other.py:make", [1.0]))
    assert HeatTable(rows, "").columns()[0].cells == [LOADER, "bench/other.py:make", "mine/other.py:make"]


def test_rows_without_a_value_take_no_column():
    rows = [row | {"ceiling_share": None, "load": None} for row in heat()]
    text = render(HeatTable(rows, "none"), 200)
    assert "memory's" not in text
    assert "others'" not in text
    del rows[0]["load"]  # rows of before it was measured
    assert "others'" not in render(HeatTable(rows, "none"), 200)


def test_common_settings_are_said_once():
    rows = [made("resident", [2.0]), made("resident", [1.0], recipe="basic", batch_size=64)]
    common = shared(rows)
    assert [named(row, common) for row in rows] == ["none, batch 512", "basic, batch 64"]
    assert "All: float32, cpu, 2 threads." in caption(common, wide=False)
    assert "--wide" in caption(common, wide=False)
    assert "99 % of gaps" in caption(common, wide=True)


def test_a_contestant_that_comes_again_begins_a_heat():
    one, two, other = made("resident", [2.0]), made("ffcv", [1.0]), made("ffcv", [1.0], recipe="basic")
    assert heats_of([one, two, one, two, other]) == [[one, two], [one, two], [other]]


def test_reasons_are_whole_sentences_each_said_once():
    rows = [made("dali", [1.0], recipe=recipe) | OUT for recipe in ("none", "basic")]
    rows += [made("mine.py:make", [1.0], verified=False, reason="it draws its own numbers")]
    assert reasons(rows) == [
        "dali has no speed (none; basic): did not open in 300 s.",
        "mine.py:make is not verified (none): it draws its own numbers.",
    ]
