"""The picture of rows: what has a speed is drawn."""

import pytest
from support.markup import MARKUP, drawn_texts
from support.throughput import OUT, made

from fastcifar.errors import UsageError
from fastcifar.show.text import printable
from fastcifar.throughput.plot import dots, plot


def test_plot_draws_what_has_a_speed(tmp_path):
    from PIL import Image

    drawn = [made("resident", [100.0, 90]), made("ffcv:stock", [50.0], verified=False), made("dali", [1.0], **OUT)]
    plot(drawn, tmp_path / "one.png")
    plot([*drawn, made("resident", [5.0], recipe="basic")], tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width == 1600
    assert (tmp_path / "two.png").stat().st_size > 5000
    with pytest.raises(UsageError, match="nothing to draw"):
        plot([made("dali", [1.0], **OUT)], tmp_path / "none.png")


def test_a_contestant_is_a_dot_at_its_median_on_the_line_of_its_range():
    stock = made("ffcv:stock", [50.0, 40, 80], verified=False)
    figure = dots([made("replay", [900.0, 800, 700]), stock, made("dali", [1.0], **OUT)])
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert not axes.patches, "a bar has no meaningful length on a logarithmic axis"
    ceiling, *marks = axes.lines
    assert (ceiling.get_linestyle(), list(ceiling.get_xdata())) == (":", [1e6, 1e6])
    assert [list(mark.get_xdata()) for mark in marks] == [[700, 900], [800], [40, 80], [50]]
    assert [list(mark.get_ydata()) for mark in marks] == [[0, 0], [0], [1, 1], [1]]
    _, replay, _, unverified = marks
    assert replay.get_markerfacecolor() == replay.get_markeredgecolor() == "0.6"
    assert unverified.get_markerfacecolor() == "white" != unverified.get_markeredgecolor()
    assert [text.get_text() for text in axes.texts] == ["800", "50, not verified", "no speed"]
    assert "An open dot" in figure.get_supxlabel()
    assert "An open dot" not in dots([made("resident", [5.0])]).get_supxlabel()


def test_words_go_to_the_other_side_of_a_line_where_a_ceiling_would_cross_them():
    figure = dots([made("resident", [9e5, 8e5, 7e5]), made("torchvision", [3e3, 2e3, 1e3])])
    assert [text.get_horizontalalignment() for text in figure.axes[0].texts] == ["right", "left"]


@pytest.mark.parametrize("name", MARKUP)
def test_contestants_and_heats_have_their_names(tmp_path, name):
    drawn = [made(f"one{name}", [100.0, 90], recipe=name), made(name, [5.0], recipe=name), made(name, [1.0], **OUT)]
    plot(drawn, tmp_path / "a.png")
    assert {f"one{printable(name)}", printable(name), f"{printable(name)}, batch 512, float32, cpu"} <= drawn_texts(
        dots(drawn)
    )
