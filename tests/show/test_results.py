"""The table of results has a row for each configuration."""

from support.markup import MARKUP, shown_text
from support.text import rows_of, text_of

from fastcifar.show.results import results_table


def summary(accuracy, **more):
    return {
        "val_accuracy": accuracy, "kept_epoch": 7, "epochs": 30, "parameters": 376_834, "images_per_s": 1234.5,
        "stall": 0.0123, "seconds": 10.0,
    } | more  # fmt: skip


def test_results_are_a_row_a_configuration():
    table = rows_of(
        text_of(
            results_table(
                {
                    "cnn-none": [summary(0.67), summary(0.681, kept_epoch=9, images_per_s=2000.0), summary(0.6535)],
                    "cnn-erasing": [summary(None, kept_epoch=None, epochs=2)],
                    "cnn-many": [summary(0.5, kept_epoch=n) for n in range(5)],
                }
            )
        )
    )
    assert table[-1] == ["accuracy: mean ± standard deviation (n - 1) over seeds"]
    rows = {cells[0]: cells[1:] for cells in table}
    assert rows["cnn-many"][2:4] == ["0-4", "30-30"]
    assert rows["cnn-none"] == ["3", "66.82 ± 1.38", "7, 9, 7", "30, 30, 30", "376,834", "1,234", "1.23", "30.0"]
    assert rows["cnn-erasing"] == ["1", "none (1 diverged)", "none", "2", "376,834", "1,234", "1.23", "10.0"]


def test_a_configuration_is_shown_under_its_name():
    table = results_table({f"x {name}": [summary(0.5)] for name in MARKUP if name.isprintable()})
    lines = shown_text(table).splitlines()
    for name in MARKUP:
        assert not name.isprintable() or any(line.startswith(f"x {name}  ") for line in lines)
