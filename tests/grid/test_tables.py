"""The plan of a grid as tables, readable at every width."""

from types import SimpleNamespace

import pytest
import torch
from support.widths import WIDTHS, readable, render

from fastcifar.grid.packing import packs_of
from fastcifar.grid.tables import experiments_table, plan_table
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.packs.choice import Measured

MEASURED = Measured("grouped", {"serial": 10.0, "grouped": 1_234_567.0}, 3 << 20)
DATASET = SimpleNamespace(
    sha256="ab" * 32,
    classes=tuple("0123456789"),
    ids=lambda split: range({"training": 4000, "validation": 1000}[split]),
)


@pytest.fixture
def rows():
    wanted = Wanted([1, 2], protocols=["sound", "as-run"], amp="off")
    packs = packs_of(runs_of(wanted, DATASET, torch.device("cpu")).specs, lambda shape: 999)
    return [(pack, 2, MEASURED, (60.0, 4_444_000.0)) for pack in packs]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_plan_has_a_line_for_each_shape(rows, width):
    text = render(plan_table(rows), width)
    readable(text, ["cnn", "as-run", "128", "1,234,567", "1,234 h", "network", "images/s", "at most"])
    assert max(map(len, text.splitlines())) <= width
    assert sum("1,234 h" in line for line in text.splitlines()) == len(rows)


def test_a_wide_plan_has_all_ways_and_the_memory(rows):
    text = render(plan_table(rows), 200)
    assert "grouped 1,234,567, serial 10" in text
    readable(text, ["float32", "3", "60 s", "at least", "MiB a run"])


def test_a_quick_plan_says_where_each_speed_comes_from(rows):
    text = render(plan_table(rows, ["measured", "kept", *["estimated"] * (len(rows) - 2)]), 80)
    readable(text, ["measured", "kept", "estimated", "speed"])
    assert "MiB" not in text


def test_a_slow_network_has_a_speed_and_not_zero(rows):
    slow = [(pack, packs, Measured("serial", {"serial": 0.123}, 0), span) for pack, packs, _, span in rows]
    readable(render(plan_table(slow), 80), ["0.12"])


@pytest.mark.parametrize("width", WIDTHS)
def test_the_experiments_and_their_sum(rows, width):
    lines = render(experiments_table(rows), width).splitlines()
    assert [line.split()[:2] for line in lines[-5:]] == [
        ["1", "as-run"], ["1", "sound"], ["2", "as-run"], ["2", "sound"], ["all", str(3 + 6 + 216 + 216)]
    ]  # fmt: skip
