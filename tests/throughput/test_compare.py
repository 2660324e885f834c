"""The rows of two times, compared: a change is told from noise."""

import pytest
from support.throughput import OUT, made
from support.widths import WIDTHS, readable, render

from fastcifar.errors import UsageError
from fastcifar.throughput.compare import changes, comparison, widest


def test_compare_tells_a_change_from_noise():
    old = [made("resident", [100.0, 104, 96]), made("ffcv", [50.0, 52, 48]), made("dali", [10.0, 11, 9])]
    # the machine is twice as fast now, ffcv is four times: the ratio to resident doubled
    new = [made("resident", [200.0, 208, 192]), made("ffcv", [200.0, 208, 192]), made("dali", [1.0], **OUT)]
    found = {change.pipeline: change for change in changes(old, new)}
    assert list(found) == ["resident", "ffcv"]
    assert found["resident"].speed == pytest.approx((2, 192 / 104, 208 / 96))
    assert found["resident"].ratio is None
    assert found["ffcv"].ratio == pytest.approx((2, 2, 2))
    assert found["ffcv"].exceeds_noise(found["ffcv"].ratio)
    assert widest(list(found.values())) == pytest.approx(1)
    same = changes(old, old)
    assert not any(change.exceeds_noise(change.speed) for change in same)
    assert widest(same) == pytest.approx(0)
    (table,) = comparison(same)
    assert "ffcv" in render(table, 80)
    with pytest.raises(UsageError, match="no contestant in common"):
        changes(old, [made("tfdata", [1.0])])


@pytest.mark.parametrize("width", WIDTHS)
def test_the_comparison_can_be_read(width):
    rows = [made(name, [9_123_456.0, 9_234_567]) for name in ("resident", "torchvision:png")]
    (table,) = comparison(changes(rows, rows))
    readable(render(table, width), ["pipeline", "torchvision:png", "9,179,012", "new images/s", "1.000"])
