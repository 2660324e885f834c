"""Curves: what is drawn is what was measured."""

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.lines import line_of
from support.markup import MARKUP, drawn_texts

from fastcifar.show.figures import axes_grid, curves, mean_std, save
from fastcifar.show.text import printable


@given(st.lists(st.lists(st.none() | st.floats(-100, 100), min_size=1, max_size=6), min_size=1, max_size=5))
def test_mean_and_deviation_are_numpy_s_over_the_runs_that_got_there(runs):
    mean, std = mean_std([[{"x": value} for value in run] for run in runs], "x")
    assert len(mean) == len(std) == max(map(len, runs))
    for epoch in range(len(mean)):
        values = [run[epoch] for run in runs if epoch < len(run) and run[epoch] is not None]
        if not values:
            assert np.isnan(mean[epoch])
            continue
        assert mean[epoch] == pytest.approx(np.mean(values))
        assert std[epoch] == pytest.approx(np.std(values, ddof=1) if len(values) > 1 else 0, abs=1e-9)


RUNS = {
    "one": [[line_of(1, 2.0, 0.1), line_of(2, 1.0, 0.3)], [line_of(1, 2.2, 0.2)]],
    "two": [[line_of(1, 3.0, 0.2), line_of(2, None, None)]],
}


def test_curves_are_drawn_to_a_file(tmp_path):
    path = tmp_path / "made" / "curves.png"
    curves(RUNS, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (1500, 600)
        assert len(np.unique(np.array(image.convert("L")))) > 10


def test_curves_show_seed_means_and_bands(figures, tmp_path):
    curves(RUNS, tmp_path / "curves.png")
    loss, accuracy = figures[0].axes
    drawn = {found.get_label(): found for found in loss.lines + accuracy.lines}
    assert list(drawn) == [
        "one, training", "one, validation", "two, training", "two, validation", "one", "two",
    ]  # fmt: skip
    assert drawn["one, training"].get_ydata() == pytest.approx([2.1, 1.0])
    assert drawn["one, training"].get_linestyle() == "--" != drawn["one, validation"].get_linestyle()
    assert drawn["one"].get_xdata().tolist() == [1, 2]
    assert drawn["one"].get_ydata() == pytest.approx([15, 30])
    assert drawn["two"].get_ydata() == pytest.approx([20, np.nan], nan_ok=True)
    assert drawn["one"].get_color() == drawn["one, training"].get_color() != drawn["two"].get_color()
    band = accuracy.collections[0].get_paths()[0].vertices
    deviation = 10 / np.sqrt(2)
    at_first = band[band[:, 0] == 1, 1]
    assert (at_first.min(), at_first.max()) == pytest.approx((15 - deviation, 15 + deviation))


def test_more_configurations_than_colours(tmp_path):
    curves({f"c{n}": [[line_of(1, 1.0, 0.5)]] for n in range(9)}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("name", MARKUP)
def test_a_run_is_drawn_under_its_name(figures, tmp_path, name):
    curves({name: [[line_of(1, 1.0, 0.5)]]}, tmp_path / "curves.png")
    shown = printable(name)
    assert {shown, f"{shown}, training", f"{shown}, validation"} <= drawn_texts(figures[0])


@pytest.mark.parametrize("name", MARKUP)
def test_every_text_of_a_figure_is_text(tmp_path, name):
    """Wherever it stands, and whatever a user's matplotlibrc says."""
    with mpl.rc_context({"text.usetex": True}):
        figure, (axes,) = axes_grid(16, 9, 1, 1)
        axes.set(title=name, xlabel=name + "x", ylabel=name + "y")
        axes.annotate(name + "a", (0.5, 0.5))
        axes.plot([0, 1], label=name)
        axes.legend(axes.lines, [name + "l"], title=name + "t")
        figure.suptitle(name + "s")
        figure.supxlabel(name + "f")
        axes.set_xticks([0, 1], [printable(name), ""])
        figure.legend(axes.lines, [name + "g"], loc="outside lower center")
        save(figure, tmp_path, "a")
        assert {printable(name) + end for end in ("", *"xyaltsfg")} <= drawn_texts(figure)
