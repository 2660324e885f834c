"""The picture of the arms shows what was measured."""

from math import nan

import pytest
from PIL import Image
from support.diagnosis import EVAL, FAST, SLOW, of
from support.markup import TOGETHER, drawn_texts

from fastcifar.diagnose import picture
from fastcifar.show.text import printable


@pytest.mark.whole
def test_the_picture_shows_every_arm_and_what_is_restored(evaluations, figures, tmp_path):
    picture.draw_diagnosis(evaluations, "a title", tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1500, 975)
    (figure,) = figures
    losses, accuracies, steps, moved = figure.axes
    assert figure.get_suptitle() == "a title"
    assert [text.get_text() for text in figure.legends[0].texts] == [FAST, SLOW, EVAL, picture.RESTORED]
    restored = [f"{name}: {picture.RESTORED}" for name in (FAST, SLOW)]
    for axes in (losses, accuracies, steps):
        assert [drawn.get_label() for drawn in axes.lines] == [FAST, restored[0], SLOW, restored[1], EVAL]
    assert [drawn.get_label() for drawn in moved.lines] == [FAST, FAST, SLOW, SLOW, EVAL, EVAL]
    found = of(evaluations, FAST)
    ends = [found[0], found[3], found[6]]
    assert losses.lines[0].get_xdata().tolist() == [0, 1, 2]
    assert losses.lines[0].get_ydata().tolist() == [end.loss for end in ends]
    assert losses.lines[1].get_ydata().tolist() == [end.restored_loss for end in ends]
    assert accuracies.lines[0].get_ydata().tolist() == [100 * end.accuracy for end in ends]
    by_step = steps.lines[0].get_ydata().tolist()
    assert by_step == pytest.approx(
        [*(e.loss for e in found[1:4]), nan, *(e.loss for e in found[4:]), nan], nan_ok=True
    )
    assert all(0.5 < x <= 1.5 for x in steps.lines[0].get_xdata()[:4])
    assert moved.lines[1].get_ydata()[0] == found[1].moved_most


@pytest.mark.whole
def test_networks_and_datasets_have_their_names(evaluations, figures, tmp_path):
    picture.draw_diagnosis(evaluations, f"one\n{TOGETHER[:150]}", tmp_path / "curves.png")
    assert {"one", printable(TOGETHER[:150])} <= drawn_texts(figures[0])
