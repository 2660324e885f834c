"""The picture has a panel for each suspect, and shows what was measured."""

from dataclasses import replace

import pytest
from PIL import Image
from support.diagnosis import EVAL, FAST, SLOW, of
from support.markup import TOGETHER, drawn_texts

from fastcifar.diagnose import picture
from fastcifar.diagnose.splits import ONE, OWN, band
from fastcifar.diagnose.suspects import TITLES
from fastcifar.diagnose.verdict import not_run
from fastcifar.diagnose.whole import WHOLE
from fastcifar.show.text import printable


@pytest.mark.whole
def test_the_panels(made, figures, tmp_path):
    picture.draw_diagnosis(made, "a title", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1650, 1200)
    (figure,) = figures
    drift, statistics, split, weights = figure.axes
    assert figure.get_suptitle() == "a title"
    assert [axes.get_title() for axes in figure.axes] == [
        f"{TITLES[one.suspect]}: {one.verdict}" for one in made.judgements
    ]
    labels = [f"{name}{what}" for name in (FAST, SLOW) for what in ("", f": {picture.FINAL}", f": {picture.RESTORED}")]
    assert [line.get_label() for line in drift.lines] == [*labels, EVAL]
    shown = [text.get_text() for text in drift.get_legend().texts]
    assert shown == [FAST, SLOW, EVAL, picture.FINAL, picture.RESTORED]
    late = of(made.evaluations, FAST)[2:]
    assert list(drift.lines[0].get_xdata()) == [1, 1.6, 2, 2.6, 3]
    assert list(drift.lines[0].get_ydata()) == [one.loss for one in late]
    assert list(drift.lines[1].get_ydata()) == [one.final_loss for one in late]
    assert list(drift.lines[2].get_ydata()) == [one.restored_loss for one in late]
    assert list(statistics.lines[2].get_ydata()) == [100 * one.accuracy for one in of(made.evaluations, EVAL)]
    assert [line.get_label() for line in split.lines] == [OWN, ONE]
    assert list(split.lines[1].get_ydata()) == [mean for mean, _ in band(made.seeds, ONE, "loss")]
    assert list(weights.lines[0].get_ydata()) == [one.loss for one in of(made.evaluations, WHOLE)]
    assert list(weights.lines[1].get_ydata()) == [one.loss for one in of(made.evaluations, EVAL)[1:]]


@pytest.mark.whole
def test_a_suspect_that_was_not_run_has_an_empty_panel_and_names_are_drawn_as_they_are(made, figures, tmp_path):
    left = replace(made, seeds=[], judgements=[not_run(one.suspect) for one in made.judgements])
    picture.draw_diagnosis(left, f"one\n{TOGETHER[:150]}", tmp_path / "curves.png")
    assert {"one", printable(TOGETHER[:150]), "all weights trained: not run"} <= drawn_texts(figures[0])
    assert not any(axes.lines or axes.axison for axes in figures[0].axes)
