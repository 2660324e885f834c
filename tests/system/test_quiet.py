"""What would spoil a measurement is decided from a snapshot: with the value, the bound and the cure."""

from dataclasses import replace

import pytest

from fastcifar.system import load, quiet
from fastcifar.system.doctor import surroundings
from fastcifar.system.load import Load, Snapshot

GIB = 1 << 30
QUIET = Snapshot(cores=4, allowed=4, usable=4, load=Load(0.1, 0.3), available_bytes=8 * GIB, clock_share=1.0)
BUSY = Load(2.5, 3.0)


def spoilt(**changes):
    return quiet.spoiling(quiet.checks(replace(QUIET, **changes)))


def test_a_quiet_machine():
    found = quiet.checks(QUIET)
    assert all(check.ok and check.detail and not check.cure for check in found)
    assert quiet.spoiling(found) == []


def test_unknown_values_spoil_nothing():
    assert spoilt(load=Load(None, None), available_bytes=None, clock_share=None) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"load": BUSY, "variables": {"OMP_WAIT_POLICY": "passive"}}, "other programs: they use 2.5 of 4 cores, load "
         "average 3.0; at most 0.4 leave the 4 usable cores free; end them, or wait"),
        ({"load": Load(None, 3.0)}, "other programs: they use an unknown number of cores, load average 3.0; "),
        ({"usable": 1}, "cores: 1 of 4 can be used, and 2 are the least; give this process more"),
        ({"throttled": True}, "clock rate: the processor slows down because of heat; let it cool down"),
        ({"clock_share": 0.5}, "clock rate: limited to 50% of the highest one, and 90% is the least; raise it with"),
        ({"governor": "powersave"}, "clock rate: chosen by the rule powersave, under which it rises late or never; "),
        ({"available_bytes": GIB}, "free memory: 1.0 GiB, and 2 GiB are needed; end other programs"),
        ({"on_battery": True}, "power: from a battery, which limits the clock rate; connect the charger"),
        ({"variables": {"OMP_NUM_THREADS": "1"}}, "OpenMP: OMP_NUM_THREADS is 1, and 4 cores can be used; unset OMP_N"),
        ({"variables": {"OMP_PROC_BIND": "close"}}, "OpenMP: OMP_PROC_BIND is close, which puts the threads of every "
         "process on the same cores; unset OMP_PROC_BIND"),
    ],
)  # fmt: skip
def test_each_thing_that_spoils(changes, sentence):
    (found,) = spoilt(**changes)
    assert found.startswith(sentence)


def test_what_is_as_it_should_be():
    assert spoilt(variables={"OMP_NUM_THREADS": "4,1", "OMP_PROC_BIND": "false", "OMP_WAIT_POLICY": "ACTIVE"}) == []
    assert spoilt(governor="performance") == []


def test_other_cores_may_be_busy():
    """A quota of 2 of 64 cores leaves room for others."""
    many = {"cores": 64, "allowed": 64, "usable": 2}
    assert spoilt(load=Load(40.0, 40.0), **many) == []
    assert spoilt(load=Load(63.0, 63.0), **many)


def test_doctor_says_it_in_one_finding(monkeypatch):
    monkeypatch.setattr(load, "snapshot", lambda *_: QUIET)
    assert surroundings.quietness().ok
    monkeypatch.setattr(load, "snapshot", lambda *_: replace(QUIET, on_battery=True, throttled=True))
    found = surroundings.quietness()
    assert (found.ok, found.required) == (False, False)
    assert found.detail.startswith("clock rate: the processor slows down because of heat; power: from a battery")
    assert found.cure.endswith("; connect the charger")
