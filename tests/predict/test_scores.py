"""Accuracy, confusion and calibration: against values computed by hand, in figures, tables and pictures."""

import json
from math import log

import numpy as np
import pytest
from PIL import Image
from support.markup import MARKUP, drawn_texts, shown_text
from support.text import rows_of, text_of
from support.widths import render

from fastcifar.predict import scores
from fastcifar.predict.scores import LEAST, Classification, draw_scores, score_tables
from fastcifar.show.text import printable

CLASSES = ("ant", "[bee]", "cat")
PROBABILITIES = np.array(
    [
        [0.70, 0.20, 0.10],  # right,  confidence 0.70: bin 10, (0.667, 0.733]
        [0.10, 0.72, 0.18],  # wrong,  0.72: the same bin
        [0.25, 0.35, 0.40],  # right,  0.40: bin 5, or 6 if its float32 is above the edge, which it is
        [0.00, 0.00, 1.00],  # right,  1.00: the last bin
        [0.95, 0.05, 0.00],  # wrong,  0.95: the last bin; the truth was impossible
    ],
    np.float32,
)
LABELS = np.array([0, 0, 2, 2, 2], np.uint8)
RESULT = Classification.of(PROBABILITIES, LABELS, CLASSES)


def test_confusion_and_accuracy_by_hand():
    assert RESULT.confusion.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]
    assert RESULT.images == 5
    assert RESULT.accuracy == 3 / 5


def test_the_likelihood_by_hand():
    logs = [log(0.7), log(0.1), log(0.4), log(1.0), log(LEAST)]
    assert RESULT.nll == pytest.approx(-sum(logs) / 5)
    assert LEAST == 2.0**-126


def test_the_calibration_error_by_hand():
    """Bins: {0.70 right, 0.72 wrong}, {0.40 right}, {1.00 right, 0.95 wrong}."""
    expected = (2 * abs(0.5 - 0.71) + 1 * abs(1 - 0.40) + 2 * abs(0.5 - 0.975)) / 5
    assert RESULT.ece == pytest.approx(expected)
    filled = {number: b for number, b in enumerate(RESULT.bins) if b.images}
    assert {number: b.images for number, b in filled.items()} == {6: 1, 10: 2, 14: 2}
    assert (filled[10].confidence, filled[10].accuracy) == pytest.approx((0.71, 0.5))
    assert (filled[10].low, filled[10].high) == pytest.approx((10 / 15, 11 / 15))
    assert len(RESULT.bins) == 15
    assert (RESULT.bins[0].low, RESULT.bins[14].high) == (0, 1)


@pytest.mark.parametrize(("confidence", "place"), [(0.6666, 9), (0.667, 10), (0.5, 7), (1.0, 14), (1.0000001, 14)])
def test_a_bin_ends_with_its_upper_edge(confidence, place):
    """As in Guo et al.: ((m - 1) / M, m / M]. float32 probabilities may add up to a little more than 1."""
    row = np.array([[confidence, 0]], np.float32)
    found = [number for number, b in enumerate(Classification.of(row, np.zeros(1, np.uint8), "ab").bins) if b.images]
    assert found == [place]


def test_what_is_always_right_and_sure_has_no_error():
    sure = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    result = Classification.of(sure, np.array([0, 1, 2, 0]), CLASSES)
    assert (result.accuracy, result.ece, result.nll) == (1.0, 0.0, 0.0)


def test_many_classes_and_uint8_labels():
    labels = np.arange(256).astype(np.uint8)
    result = Classification.of(np.eye(256, dtype=np.float32), labels, [str(n) for n in range(256)])
    assert result.confusion.tolist() == np.eye(256).tolist()


def test_json_has_all_of_it():
    plain = json.loads(json.dumps(RESULT.plain()))
    assert (plain["images"], plain["accuracy"], plain["nll"], plain["ece"]) == (5, 0.6, RESULT.nll, RESULT.ece)
    assert plain["classes"] == list(CLASSES)
    assert plain["confusion"] == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]
    assert plain["bins"][6] == {
        "low": 0.4,
        "high": 7 / 15,
        "images": 1,
        "confidence": pytest.approx(0.4),
        "accuracy": 1,
    }


# tables


def test_the_tables_show_the_figures():
    figures, matrix = map(rows_of, map(text_of, score_tables(RESULT)))
    assert figures[-1] == ["5", "60.00", f"{RESULT.nll:.4f}", "39.40"]
    headers = "images accuracy, % negative log- likelihood expected calibration error, %"
    assert sorted(" ".join(word for line in figures[:-1] for word in line).split()) == sorted(headers.split())
    assert matrix == [
        ["Confusion: a row for each true class, a column for each predicted one"],
        ["true class", "ant", "[bee]", "cat", "right, %"],
        ["ant", "1", "1", "0", "50.0"],
        ["[bee]", "0", "0", "0", "none"],
        ["cat", "1", "0", "2", "66.7"],
    ]


def many(classes):
    """Class n is taken for class n + 1 as often as n, and never for another."""
    labels = np.repeat(np.arange(classes), np.arange(classes) + 1)
    first = np.concatenate([[0], np.cumsum(np.arange(classes) + 1)])[:-1]
    predicted = (labels + 1) % classes
    predicted[first] = np.arange(classes)
    return Classification.of(np.eye(classes, dtype=np.float32)[predicted], labels, [f"c{n}" for n in range(classes)])


def test_of_many_classes_the_most_frequent_confusions_are_shown():
    title, header, *rows = rows_of(text_of(score_tables(many(30))[1]))
    assert header == ["images", "true class", "predicted class"]
    assert rows[:2] == [["29", "c29", "c0"], ["28", "c28", "c29"]]
    assert len(rows) == scores.READABLE
    all_right = Classification.of(np.eye(30, dtype=np.float32), np.arange(30), [f"c{n}" for n in range(30)])
    assert rows_of(text_of(score_tables(all_right)[1])) == [title, header]


def test_a_narrow_terminal_shows_numbers_of_classes_or_the_confusions_alone():
    names = [f"classnumber{n}" for n in range(10)]
    result = Classification.of(np.eye(10, dtype=np.float32)[[1, *range(1, 10)]], np.arange(10), names)
    wide, middle, narrow = (render(score_tables(result)[1], width) for width in (300, 80, 50))
    assert "classnumber0  classnumber1" in wide
    assert "0 classnumber0" in middle
    assert "The most frequent confusions" in narrow


# the picture


def test_the_picture_shows_the_matrix(figures, tmp_path):
    draw_scores(RESULT, tmp_path / "made" / "a.png", "a title")
    with Image.open(tmp_path / "made" / "a.png") as image:
        assert (image.format, image.size) == ("PNG", (1650, 750))
    assert figures[0].get_suptitle() == "a title"
    matrix = figures[0].axes[0]
    assert matrix.get_title() == "accuracy 60.00 %"
    shown = np.asarray(matrix.images[0].get_array())
    assert shown == pytest.approx(np.array([[0.5, 0.5, 0], [0, 0, 0], [1 / 3, 0, 2 / 3]]))
    assert [label.get_text() for label in matrix.get_xticklabels()] == list(CLASSES)
    assert [label.get_text() for label in matrix.get_yticklabels()] == list(CLASSES)
    # (true, predicted): at x predicted, y true
    assert {text.get_position(): text.get_text() for text in matrix.texts} == {
        (0, 0): "1", (1, 0): "1", (0, 2): "1", (2, 2): "2",
    }  # fmt: skip
    assert (matrix.get_xlabel(), matrix.get_ylabel()) == ("predicted", "true")


def test_the_picture_shows_the_calibration(figures, tmp_path):
    draw_scores(RESULT, tmp_path / "a.png", "")
    _, reliability, below = figures[0].axes
    assert f"error 39.40 %, negative log-likelihood {RESULT.nll:.4f}" in reliability.get_title()
    bars = {round(bar.get_x() * 15): bar.get_height() for bar in reliability.patches}
    assert bars == pytest.approx({6: 1.0, 10: 0.5, 14: 0.5})
    gaps = reliability.collections[0].get_segments()  # from confidence up or down to accuracy, at the confidence
    assert np.array(gaps) == pytest.approx(
        np.array([[[0.4, 0.4], [0.4, 1]], [[0.71, 0.71], [0.71, 0.5]], [[0.975, 0.975], [0.975, 0.5]]])
    )
    diagonal = reliability.lines[0]
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 1], [0, 1])
    assert {round(bar.get_x() * 15): bar.get_height() for bar in below.patches} == pytest.approx(
        {6: 20, 10: 40, 14: 40}
    )
    assert (below.get_xlabel(), below.get_ylabel()) == ("confidence", "images, %")


def test_a_large_matrix_has_no_numbers(figures, tmp_path):
    draw_scores(many(30), tmp_path / "a.png", "")
    assert not figures[0].axes[0].texts
    assert figures[0].axes[0].images[0].get_array().shape == (30, 30)


# names of classes that look like markup


@pytest.mark.parametrize("name", MARKUP)
def test_a_class_is_drawn_under_its_name(figures, tmp_path, name):
    result = Classification.of(PROBABILITIES, LABELS, ("ant", name, "cat"))
    draw_scores(result, tmp_path / "a.png", name)
    shown = printable(name)
    assert shown in drawn_texts(figures[0])
    matrix = figures[0].axes[0]
    for labels in (matrix.get_xticklabels(), matrix.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["ant", shown, "cat"]
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("name", [name for name in MARKUP if name.isprintable()])
def test_a_class_is_shown_under_its_name(name):
    _, matrix = score_tables(Classification.of(PROBABILITIES, LABELS, (name, "b", "c")))
    assert any(line.startswith(f"{name}  ") for line in shown_text(matrix).splitlines())
    many_classes = (name, *map(str, range(scores.READABLE)))
    _, mistakes = score_tables(Classification.of(np.eye(21, dtype=np.float32)[[1, 0]], np.array([0, 1]), many_classes))
    first, second = shown_text(mistakes).splitlines()[-2:]
    assert first.split(maxsplit=1)[1].startswith(f"{name}  ")
    assert second.endswith(f"  {name}")
