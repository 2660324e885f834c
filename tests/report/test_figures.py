"""The report's figures hold what they should: series, labels, means, and one standard deviation shaded."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from support.markup import drawn_texts
from support.written_runs import rising, spec_of, write_run

from fastcifar.experiments import PROTOCOLS
from fastcifar.report.collection import collect
from fastcifar.report.figures import FIGURES, draw_figure
from fastcifar.show.figures import INK, inline, save

BY_NUMBER = {shown.number: shown for shown in FIGURES}


def test_there_are_twelve_of_the_groupings_that_the_report_has():
    assert list(BY_NUMBER) == list(range(1, 13))
    curves = {number: len(shown.points("sound")) for number, shown in BY_NUMBER.items()}
    assert curves == {1: 2, 2: 2, 3: 6, 4: 6, 5: 4, 6: 4, 7: 3, 8: 3, 9: 6, 10: 6, 11: 3, 12: 3}
    for shown in FIGURES:
        for protocol in PROTOCOLS:
            labels = [shown.label(point) for point in shown.points(protocol)]
            assert len(set(labels)) == len(labels), "every curve has a name of its own"
    assert [shown.label(point) for shown in [BY_NUMBER[5]] for point in shown.points("sound")] == [
        "L2 0, dropout 0", "L2 0, dropout 0.5", "L2 0.01, dropout 0", "L2 0.01, dropout 0.5"
    ]  # fmt: skip


@pytest.fixture
def collection(tmp_path):
    for recipe, best in (("none", 0.5), ("basic", 0.6)):
        for seed, accuracies in enumerate(([0.2, 0.3, best], [0.3, 0.4, best - 0.1, 0.5])):
            write_run(tmp_path, spec_of(recipe=recipe, seed=seed), accuracies)
    return collect(tmp_path)


def drawn(number, collection, protocol="sound"):
    shown = BY_NUMBER[number]
    return draw_figure(shown, shown.series(collection, protocol))


def test_a_curve_is_the_mean_and_its_band_one_standard_deviation(collection):
    (axes,) = drawn(8, collection).axes
    assert [line.get_label() for line in axes.lines] == ["none", "basic"]
    line, band = axes.lines[0], axes.collections[0]
    assert line.get_xdata().tolist() == [1, 2, 3, 4]
    assert np.allclose(line.get_ydata(), [25, 35, 45, 50])  # the last epoch is that of the run that went on
    std = 100 * np.std([[0.2, 0.3], [0.3, 0.4], [0.5, 0.4]], axis=1, ddof=1)
    corners = band.get_paths()[0].vertices
    for epoch, mean, spread in zip((1, 2, 3), (25, 35, 45), std, strict=True):
        heights = corners[corners[:, 0] == epoch][:, 1]
        assert np.isclose(heights.min(), mean - spread)
        assert np.isclose(heights.max(), mean + spread)
    assert line.get_color() != axes.lines[1].get_color()
    assert line.get_linestyle() != axes.lines[1].get_linestyle(), "not by colour alone"


def test_losses_have_a_panel_each_and_one_legend(collection):
    figure = drawn(7, collection)
    assert [axes.get_title() for axes in figure.axes] == ["training loss", "validation loss"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["none", "basic"]
    assert np.allclose(figure.axes[0].lines[0].get_ydata()[:2], [2.5 * 0.75, 2.5 * 0.65])


def test_what_is_missing_is_named(collection):
    assert BY_NUMBER[8].missing(collection, "sound") == ["none: seed 2", "basic: seed 2", "erasing"]
    assert BY_NUMBER[8].missing(collection, "report") == ["none", "basic", "erasing"]


def test_one_epoch_is_a_point_and_a_diverged_run_a_gap(tmp_path):
    write_run(tmp_path, spec_of(recipe="none"), [0.3])
    write_run(tmp_path, spec_of(recipe="basic"), [0.3, None])
    (axes,) = drawn(8, collect(tmp_path)).axes
    point, gap = axes.lines
    assert point.get_marker() == "o"
    assert np.isnan(gap.get_ydata()[1])


def test_losses_that_explode_get_a_logarithmic_axis(tmp_path):
    write_run(tmp_path, spec_of(recipe="none"), [0.1, 0.1], train=[2.0, 5000.0])
    figure = drawn(7, collect(tmp_path))
    assert figure.axes[0].get_yscale() == "log"
    assert {"10", "100", "1000"} < drawn_texts(figure), "numbers, not formulas"


@pytest.mark.whole
def test_files_are_whole_on_white_and_the_pages_form_takes_the_pages_ink(collection, tmp_path):
    figure = drawn(7, collection)
    save(figure, tmp_path, "seven")
    for suffix in ("png", "svg"):
        assert (tmp_path / f"seven.{suffix}").stat().st_size > 1000
    svg = (tmp_path / "seven.svg").read_text()
    assert INK in svg
    assert "fill: #ffffff" in svg
    save(drawn(7, collection), tmp_path, "again")
    assert (tmp_path / "again.svg").read_text() == svg, "the same runs give the same file"
    element = inline(figure, "Losses")
    root = ElementTree.fromstring(element)
    assert root.get("aria-label") == "Losses"
    assert root.get("width") is None
    assert root.get("viewBox")
    assert INK not in element
    assert "currentColor" in element
    assert "http" not in element.replace("http://www.w3.org", "")
    assert "validation loss" in "".join(root.itertext()), "text stays text"


def test_a_series_needs_an_experiment_that_has_it(collection):
    assert BY_NUMBER[1].series(collection, "sound") == []
    assert BY_NUMBER[2].missing(collection, "sound") == ["mlp_s", "mlp_l"]


def test_more_epochs_than_others(tmp_path):
    write_run(tmp_path, spec_of(recipe="none"), rising(0.5, 40))
    write_run(tmp_path, spec_of(recipe="none", seed=1), rising(0.5, 33))
    (axes,) = drawn(8, collect(tmp_path)).axes
    assert len(axes.lines[0].get_xdata()) == 40
