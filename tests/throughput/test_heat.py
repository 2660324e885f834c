"""A heat: who lies gets no speed, who crashes or hangs gets a row that says so, and nobody stays."""

import json
import sys

import pytest
from support.own import write as write
from support.pipelines import OWN
from support.throughput import KEYS, gone, held
from support.widths import render

from fastcifar.throughput import heat
from fastcifar.throughput.entrant import MEASURED, WARM_UP
from fastcifar.throughput.table import HeatTable, reasons


@pytest.mark.usefixtures("fakes")
@pytest.mark.slow
def test_only_what_is_verified_gets_a_speed(synthetic, started):
    wrong = {
        "fake:pixels": r"pixel values are not the reference's, by up to 0.0001, though the pipeline",
        "fake:labels": "of the labels are wrong",
        "fake:stock": "are over a grey level off: dice of its own",
        "fake:raises": "ValueError: the third image is missing",
        "fake:crashes": "its process ended by SIGABRT",
        "fake:limits": "threads ('1', 1, 1)",
    }
    found = held(synthetic, "resident", *wrong, "fake:near", repeats=5)
    assert list(found) == ["resident", *wrong, "fake:near"]
    for row in found.values():
        assert row.keys() == KEYS
        assert {"cpu", "commit", "dirty", "versions", "threads"} <= row["environment"].keys()
        json.dumps(row, allow_nan=False)
    for name, reason in wrong.items():
        assert reason in found[name]["reason"]
        assert not found[name]["verified"]
        assert all(found[name][key] is None for key in MEASURED)
    honest, near = found["resident"], found["fake:near"]
    assert (honest["verified"], honest["max_abs_dev"], honest["pixels_apart"]) == (True, 0, 0)
    assert honest["repeats"] == len(honest["turns"]) == 5
    assert honest["images_per_s_min"] <= honest["images_per_s"] <= honest["images_per_s_max"]
    assert honest["images_checked"] == (WARM_UP + 5) * 16  # of each turn, whether it counts or not
    assert honest["ceiling_share"] == pytest.approx(honest["images_per_s"] / (1e10 / (3 * 32 * 32 * 4)))
    assert 0 < honest["cores_busy"] < 1.5
    assert honest["cores_idle"] < 0.2
    assert near["verified"]
    assert near["max_abs_dev"] == pytest.approx(0.5, abs=1e-5)
    assert near["pixels_apart"] == pytest.approx(1 / (16 * 3 * 32 * 32))
    assert near["differs"] == "one pixel in a thousand"
    assert len(started) == len(found)
    assert all(gone(pid) for pid in started)
    assert honest["dataset"] == synthetic.name
    assert honest["turn_seconds"] == 0.05
    assert honest["load"].keys() == {"busy_cores", "load_average"}
    rows = list(found.values())
    assert "fake:crashes" in render(HeatTable(rows, "erasing"), 80)
    assert "its process ended by SIGABRT" in "".join(reasons(rows))


@pytest.mark.whole
@pytest.mark.usefixtures("fakes")
def test_unverified_speeds_are_given_when_asked_and_marked(synthetic):
    row = held(synthetic, "fake:stock", unverified=True)["fake:stock"]
    assert row["images_per_s"] > 0
    assert not row["verified"]
    assert "dice of its own" in row["reason"]
    assert "NOT VERIFIED" in render(HeatTable([row], "erasing"), 80)


@pytest.mark.whole
@pytest.mark.usefixtures("fakes")
def test_a_hanging_contestant_is_ended(synthetic, started):
    row = held(synthetic, "fake:hangs", timeout=3.0)["fake:hangs"]
    assert row["reason"].startswith("did not open in 3 s, and was ended")
    assert gone(started[0])


@pytest.mark.whole
def test_who_does_not_fit_into_memory_is_started_anew_for_each_turn(monkeypatch, synthetic, started):
    monkeypatch.setattr(heat, "IDLE_SHARE", -1)
    row = held(synthetic, "resident", repeats=2)["resident"]
    assert row["repeats"] == 2
    assert len(started) == 3  # for the warm-up, and for each turn


@pytest.mark.whole
def test_in_training(synthetic):
    found = held(synthetic, "replay", "resident", model="resnet18", recipe="basic", repeats=1)
    assert found["replay"]["verified"]
    assert found["replay"]["stall"] is None
    assert found["resident"]["bench"] == "feeding"
    replayed, fed = (found[name]["images_per_s"] for name in ("replay", "resident"))
    assert found["resident"]["stall"] == pytest.approx(1 - fed / replayed)
    assert found["resident"]["ceiling_share"] is None


@pytest.mark.whole
def test_a_pipeline_from_outside_the_package_is_found_in_its_process(synthetic, write, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    write("outside.plain", OWN)
    row = held(synthetic, "outside.plain:slow")["outside.plain:slow"]
    assert row["verified"]
    assert row["max_abs_dev"] == 0
