"""Pictures and tables: what is drawn is what was measured."""

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from support.specs import SPEC
from support.text import text_of

from fastcifar.augment import RECIPES, draw
from fastcifar.cli import listing
from fastcifar.errors import UsageError
from fastcifar.report.preview import BACKGROUND, GAP, preview
from fastcifar.runs.directory import RunDirectory
from fastcifar.show.figures import curves, mean_std
from fastcifar.show.results import results_table
from fastcifar.show.text import spread

# previews


@pytest.mark.parametrize(
    ("recipe", "side", "scale"), [("none", 32, 3), ("erasing", 32, 3), ("imagenet256", 224, 1), ("imagenet384", 384, 1)]
)
def test_a_preview_shows_the_reference_s_pixels(synthetic, tmp_path, recipe, side, scale):
    augment, rows, columns, seed = RECIPES[recipe], 3, 2, 11
    preview(synthetic, augment, tmp_path / "made" / "preview.png", rows, columns, seed)
    with Image.open(tmp_path / "made" / "preview.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        sheet = np.array(image)
    pitch = side * scale + GAP
    assert sheet.shape == (rows * pitch + GAP, (columns + 1) * pitch + GAP, 3)
    shown = np.zeros(sheet.shape[:2], bool)

    training = synthetic.ids("training")
    ids = training[[0, 39, 79]]  # the first, the middle (rounded down) and the last of 80
    images = torch.from_numpy(synthetic.images("train")[ids])
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (augment.mean, augment.std))
    for column in range(columns + 1):
        spec = augment if column else augment.still()
        pixels = reference.apply(images, draw(spec, seed, column, ids), spec).numpy()
        for row in range(rows):
            expected = np.clip((pixels[row] * std + mean) * 255, 0, 255).transpose(1, 2, 0)
            top, left = GAP + row * pitch, GAP + column * pitch
            cell = sheet[top : top + side * scale, left : left + side * scale]
            assert np.array_equal(cell, cell[::scale, ::scale].repeat(scale, 0).repeat(scale, 1))
            assert np.abs(cell[::scale, ::scale] - expected).max() <= 0.501
            shown[top : top + side * scale, left : left + side * scale] = True
            if recipe == "none" or (column == 0 and side == 32):
                assert np.array_equal(cell[::scale, ::scale], synthetic.images("train")[ids[row]])
    assert (sheet[~shown] == BACKGROUND).all()


@pytest.mark.parametrize(
    ("name", "rows", "columns", "message"),
    [
        ("a.png", 81, 1, "81 rows of 1 draws: rows go from 1 to 80, draws from 1 to 64"),
        ("a.png", 0, 1, "rows go from 1 to 80"),
        ("a.png", 1, 0, "draws from 1 to 64"),
        ("a.png", 1, 65, "draws from 1 to 64"),
        ("a.jpg", 1, 1, "a preview is a PNG file; call it a.jpg.png, for example"),
    ],
)
def test_previews_that_cannot_be_are_refused(synthetic, tmp_path, name, rows, columns, message):
    with pytest.raises(UsageError, match=message):
        preview(synthetic, RECIPES["none"], tmp_path / name, rows, columns)
    assert not any(tmp_path.iterdir())


# curves


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


def line(loss, accuracy):
    return {"train_loss": loss, "val_loss": loss, "val_accuracy": accuracy}


RUNS = {
    "one": [[line(2.0, 0.1), line(1.0, 0.3)], [line(2.2, 0.2)]],
    "two": [[line(3.0, 0.2), line(None, None)]],
}


def test_curves_are_drawn_to_a_file(tmp_path):
    path = tmp_path / "made" / "curves.png"
    curves(RUNS, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (1500, 600)
        assert len(np.unique(np.array(image.convert("L")))) > 10


def test_curves_show_seed_means_and_bands(tmp_path, monkeypatch):
    figures = []

    class Kept(Figure):
        def __init__(self, **options):
            super().__init__(**options)
            figures.append(self)

    monkeypatch.setattr("fastcifar.show.figures.Figure", Kept)
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
    curves({f"c{n}": [[line(1.0, 0.5)]] for n in range(9)}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


# tables


def summary(accuracy, **more):
    return {
        "val_accuracy": accuracy, "kept_epoch": 7, "epochs": 30, "parameters": 376_834, "images_per_s": 1234.5,
        "stall": 0.0123, "seconds": 10.0,
    } | more  # fmt: skip


def test_accuracies_are_mean_and_deviation_over_seeds():
    accuracies = [0.67, 0.681, 0.6535]
    mean, std = 100 * np.mean(accuracies), 100 * np.std(accuracies, ddof=1)
    assert spread(accuracies) == f"{mean:.2f} ± {std:.2f}" == "66.82 ± 1.38"
    assert spread([0.5]) == "50.00"
    assert spread([0.5, None, 0.6]) == "55.00 ± 7.07 (1 diverged)"
    assert spread([None, None]) == "none (2 diverged)"


def test_results_are_a_row_a_configuration():
    table = text_of(
        results_table(
            {
                "cnn-none": [summary(0.67), summary(0.681, kept_epoch=9, images_per_s=2000.0), summary(0.6535)],
                "cnn-erasing": [summary(None, kept_epoch=None, epochs=2)],
            }
        )
    )
    assert "mean ± standard deviation (n - 1)" in table
    rows = {
        cells[0]: cells[1:]
        for cells in ([cell.strip() for cell in row.split("│")[1:-1]] for row in table.splitlines())
        if cells
    }
    assert rows["cnn-none"] == ["3", "66.82 ± 1.38", "7, 9, 7", "30, 30, 30", "376,834", "1,234", "1.23", "30.0"]
    assert rows["cnn-erasing"] == ["1", "none (1 diverged)", "none", "2", "376,834", "1,234", "1.23", "10.0"]


# what there is


def test_listings(tmp_path):
    sections = listing.sections("all", tmp_path)
    assert list(sections) == ["experiments", "recipes", "pipelines", "runs"]
    assert len(sections["experiments"]) == 12  # four, under three protocols
    assert {row["recipe"]: row["does"] for row in sections["recipes"]}["none"] == {}
    assert {row["pipeline"]: row["ready"] for row in sections["pipelines"]}["resident"] is True
    assert sections["runs"] == []
    text = text_of(*listing.tables(sections))
    for word in ("experiments", "mlp_s, mlp_l", "as-run", "erasing", "resident", "none yet"):
        assert word in text
    with pytest.raises(UsageError, match="nothing is called 'models' here; there are experiments, recipes"):
        listing.sections("models", tmp_path)


def test_runs_are_listed_as_they_stand(tmp_path):
    directory = RunDirectory.of(SPEC, tmp_path)
    with directory.locked():
        directory.start(SPEC, {})
        directory.append_metrics(line(2.0, 0.1) | {"epoch": 1, "seconds": 1.0})
    row = {"run": SPEC.run_id, "status": "unfinished", "epochs": 1, "accuracy, %": ""}
    assert listing.sections("runs", tmp_path) == {"runs": [row]}
    directory.finish({"status": "diverged", "epochs": 1, "val_accuracy": None})
    assert listing.sections("runs", tmp_path)["runs"] == [
        row | {"status": "diverged", "accuracy, %": "none (1 diverged)"}
    ]
