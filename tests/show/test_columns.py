"""Tables that fit a terminal: what is folded where, what is left out, and what never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.widths import WIDTHS, readable, render

from fastcifar.show.columns import Column, FirstThatFits, Fitted, folded, pieces

LABEL = "cnn-basic-b128-lr1e-05-l2_0-d0.5-sound"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (LABEL, ["cnn-", "basic-", "b128-", "lr1e-05-", "l2_0-", "d0.5-", "sound"]),
        ("1,234,567 images/s", ["1,234,567", "images/s"]),
        ("-1.5e-07", ["-1.5e-07"]),
        ("basic,crop=4,erase=0.25", ["basic,", "crop=4,", "erase=0.25"]),
        ("flip=alternating", ["flip=", "alternating"]),
        ("package.module:factory", ["package.", "module:", "factory"]),
        ("runs/exp2/metrics.jsonl", ["runs/", "exp2/", "metrics.", "jsonl"]),
        ("", [""]),
    ],
)
def test_a_line_ends_between_words_and_never_in_a_number(text, parts):
    assert pieces(text) == parts


def test_a_text_is_folded():
    assert folded(LABEL, 20) == ["cnn-basic-b128-", "lr1e-05-l2_0-d0.5-", "sound"]
    assert folded("two\nlines", 20) == ["two", "lines"]
    assert folded("a_very_long_word_indeed", 10) == ["a_very_", "long_word_", "indeed"]
    assert folded("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]  # there is no better place


@given(st.text(alphabet="ab1 -_/,.=:\n", max_size=60), st.integers(1, 30))
def test_folding_loses_nothing_but_spaces_and_keeps_the_width(text, width):
    lines = folded(text, width)
    assert all(len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def table(**more):
    return Fitted(
        [
            Column("configuration", [LABEL, f"timm-{LABEL}"], number=False),
            Column("accuracy, %", ["67.31 ± 0.42", "none (3 diverged)"]),
            Column("kept epoch", ["32, 45, 31", "1"], rank=1),
            Column("parameters", ["1,234,567", "7,654,321"], rank=2),
            Column("images/s", ["1,234,567", "7,654,321"]),
        ],
        **more,
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_headers_and_the_pieces_of_names_stay_whole(width):
    text = render(table(title="Results", caption="a caption", more="--wide shows them"), width)
    readable(text, ["Results", "1,234,567", "7,654,321", "67.31 ± 0.42", "(3 diverged)", "configuration", "images/s"])
    assert all(len(line) <= width for line in text.splitlines())
    assert "".join(text.split()).count("cnn-basic-b128-") == 2 or width < 100


def test_the_least_important_columns_are_left_out_first_and_named():
    assert "no room" not in render(table(), 100)
    assert "no room for parameters: --wide" in render(table(more="--wide"), 72)
    narrow = render(table(more="--wide"), 60)
    assert "no room for kept epoch, parameters: --wide" in narrow
    assert "images/s" in narrow


def test_where_no_column_can_be_left_out_the_first_is_on_lines_of_its_own():
    lines = Fitted([Column("name", [LABEL, LABEL, "b"], False), Column("n", ["1" * 30, "2", "3"])]).lines(40)
    assert lines[0] == "name"
    assert lines[3:] == [LABEL, f"  {'1' * 30}", f"{'2':>32}", "b", f"{'3':>32}"], "equal names stand once"


def test_a_table_without_rows_has_its_header():
    assert Fitted([Column("none yet", [])]).lines(60) == ["none yet", "────────"]


def test_cells_are_no_markup():
    assert "[red]x[/]" in render(Fitted([Column("a", ["[red]x[/]"], False)]), 60)


def test_the_first_table_that_fits_is_printed_or_else_the_last():
    wide, narrow = (Fitted([Column("n", ["1" * size])]) for size in (50, 90))
    assert "1" * 50 in render(FirstThatFits([wide, narrow]), 60)
    assert render(FirstThatFits([narrow, wide]), 60).count("1") == 50
