"""The slope of a process's memory: steps and single values do not change it, a leak does."""

import numpy as np
import pytest

from fastcifar.testing import leaks

BATCH = 786_432


@pytest.mark.parametrize("leaked", [0, BATCH])
def test_the_slope_is_the_leak_whatever_comes_and_goes(leaked):
    rng = np.random.default_rng(0)
    for _ in range(200):
        used = 1e9 + leaked * np.arange(20) + rng.normal(0, BATCH / 2, 20)
        used[rng.integers(20)] += 25e6  # memory that comes and goes
        used[rng.integers(4, 16) :] += 2e6  # a buffer that stays
        assert abs(leaks.slope(used.tolist()) - leaked) < BATCH / 2


def test_the_warm_up_is_not_measured():
    calls = []
    assert len(leaks.growth(calls.append, 4)) == 4
    assert calls == list(range(leaks.WARM_UP + 4))


@pytest.mark.skipif(not leaks.measurable(), reason="needs Linux's /proc")
def test_used_memory_is_seen_and_freed_memory_is_not():
    before = leaks.used_bytes()
    kept = np.ones(64 << 20, np.uint8)
    assert leaks.used_bytes() - before > 60 << 20
    del kept
    assert leaks.used_bytes() - before < 8 << 20


def test_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(leaks, "STATM", tmp_path / "none")
    assert not leaks.measurable()
    assert leaks.used_bytes() == 0
