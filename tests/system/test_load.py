"""The load and the state of the machine, read from a made-up root folder."""

import os
import time

import pytest

from fastcifar.system import load

LINE = "cpu{core} {user} 0 10 1000 50 0 0 {steal} 7 0\n"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root folder. ``write(path, text)`` makes a file in it, ``later`` is written while the load is measured."""

    class Root:
        path, later = tmp_path, dict[str, str]()

        def write(self, name, text):
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

        def stat(self, user, steal=0):
            return (
                "cpu 1 2 3\n" + "".join(LINE.format(core=core, user=user, steal=steal) for core in CORES) + "intr 1\n"
            )

    made = Root()

    def sleep(seconds):
        for name, text in made.later.items():
            made.write(name, text)
        clock[0] += seconds

    clock = [0.0]
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(time, "process_time", lambda: 5.0)
    return made


def test_the_load_of_others(root, monkeypatch):
    ticks = os.sysconf("SC_CLK_TCK")
    root.write("proc/stat", root.stat(user=100))
    root.write("proc/loadavg", "1.25 0.5 0.1 1/99 4242\n")
    assert load.measure(0.5, root.path) == load.Load(0.0, 1.25)
    root.later["proc/stat"] = root.stat(user=100 + ticks // 10, steal=ticks // 10)
    found = load.measure(0.5, root.path)
    assert found.busy_cores == pytest.approx(0.4 * len(CORES))
    own = iter([5.0, 5.05])  # what this process works itself is not the load of others
    root.write("proc/stat", root.stat(user=100))
    monkeypatch.setattr(time, "process_time", lambda: next(own))
    assert load.measure(0.5, root.path).busy_cores == pytest.approx(0.4 * len(CORES) - 0.1)


def test_a_core_that_this_process_may_not_use_does_not_count(root):
    other = LINE.format(core=max(CORES) + 1, user="{user}", steal=0)
    root.write("proc/stat", root.stat(user=100) + other.format(user=0))
    root.later["proc/stat"] = root.stat(user=100) + other.format(user=999)
    assert load.measure(0.5, root.path).busy_cores == 0


def test_a_machine_without_these_files(root):
    found = load.snapshot(0.5, root.path, {"HOME": "x"})
    assert found.load == load.Load(None, None)
    assert (found.available_bytes, found.clock_share, found.governor) == (None, None, None)
    assert (found.throttled, found.on_battery, found.variables) == (False, False, {})
    assert 1 <= found.usable <= found.allowed <= found.cores


@pytest.mark.parametrize("stat", ["", "cpu0 a b\n", "cpu0 1\n", "\n\n"])
def test_a_damaged_file_is_an_unknown_value(stat, root):
    root.write("proc/stat", stat)
    root.write("proc/loadavg", "none")
    root.write("proc/meminfo", "MemAvailable: much kB\n")
    root.write(f"sys/devices/system/cpu/cpu{CORES[0]}/cpufreq/scaling_max_freq", "fast")
    found = load.snapshot(0.5, root.path, {})
    assert found.load == load.Load(None, None)
    assert (found.available_bytes, found.clock_share) == (None, None)


def test_memory_is_the_machines_or_the_control_groups(root):
    root.write("proc/meminfo", "MemTotal: 999 kB\nMemAvailable:     400 kB\n")
    assert load.available_bytes(root.path) == 400 * 1024
    root.write("sys/fs/cgroup/memory.max", "max\n")
    root.write("sys/fs/cgroup/memory.current", "100\n")
    assert load.available_bytes(root.path) == 400 * 1024
    root.write("sys/fs/cgroup/memory.max", "300\n")
    assert load.available_bytes(root.path) == 200


def test_clocks_and_heat(root):
    cpu = f"sys/devices/system/cpu/cpu{CORES[0]}"
    for name, text in {"scaling_max_freq": "2000000", "cpuinfo_max_freq": "4000000", "scaling_driver": "acpi-cpufreq",
                       "scaling_governor": "powersave"}.items():  # fmt: skip
        root.write(f"{cpu}/cpufreq/{name}", f"{text}\n")
    found = load.snapshot(0.5, root.path, {})
    assert (found.clock_share, found.governor, found.throttled) == (0.5, "powersave", False)
    root.write(f"{cpu}/cpufreq/scaling_driver", "intel_pstate\n")  # whose powersave is the usual rule
    assert load.snapshot(0.5, root.path, {}).governor is None
    root.write(f"{cpu}/thermal_throttle/core_throttle_count", "7\n")
    assert not load.snapshot(0.5, root.path, {}).throttled
    root.later[f"{cpu}/thermal_throttle/core_throttle_count"] = "9\n"
    assert load.snapshot(0.5, root.path, {}).throttled
    root.later.clear()
    for state, throttled in (("0", False), ("2", True)):
        root.write("sys/class/thermal/cooling_device0/type", "Processor\n")
        root.write("sys/class/thermal/cooling_device0/cur_state", state)
        assert load.snapshot(0.5, root.path, {}).throttled == throttled


def test_a_battery(root):
    root.write("sys/class/power_supply/BAT0/type", "Battery\n")
    root.write("sys/class/power_supply/BAT0/status", "Charging\n")
    root.write("sys/class/power_supply/mouse/type", "Battery\n")
    root.write("sys/class/power_supply/mouse/status", "Discharging\n")
    root.write("sys/class/power_supply/mouse/scope", "Device\n")
    assert not load.snapshot(0.5, root.path, {}).on_battery
    root.write("sys/class/power_supply/BAT0/status", "Discharging\n")
    assert load.snapshot(0.5, root.path, {}).on_battery


def test_variables_of_openmp(root):
    given = {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "1", "HOME": "x"}
    assert load.snapshot(0.5, root.path, given).variables == {key: given[key] for key in given if key != "HOME"}


def test_on_this_machine():
    found = load.snapshot(0.05)
    assert found.load.busy_cores is None or 0 <= found.load.busy_cores <= found.allowed
