"""What a measurement shares the machine with: the load by other programs, limits of the clock rate, free memory, power.

Everything is read from Linux's /proc and /sys. What a machine does not have is None, or False, or empty.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastcifar.system import machine

ROOT = Path("/")
WINDOW = 0.5  # seconds over which the load is measured; Linux counts CPU time in ticks of 10 ms
BUSY = (0, 1, 2, 5, 6, 7)  # fields of a line "cpuN" in /proc/stat: user, nice, system, irq, softirq, steal
VARIABLES = ("OMP_", "GOMP_", "KMP_")
COOLING = ("Processor", "cpufreq", "thermal-cpu")  # the types of cooling devices that slow a processor down


@dataclass(frozen=True)
class Load:
    """The load of the cores that this process may use, by its affinity.

    busy_cores: the cores that other programs used within the window, and other virtual machines (steal).
    load_average: the number of programs that ran or waited, over the last minute. Both are None where it is unknown.
    """

    busy_cores: float | None
    load_average: float | None


@dataclass(frozen=True)
class Snapshot:
    """The state of the machine before a measurement."""

    cores: int
    """The cores of the machine."""
    allowed: int
    """The cores that the affinity of this process allows. Load.busy_cores is counted on these."""
    usable: int
    """The cores that are left under the quota of the control group, too (`machine.usable_cores`)."""
    load: Load
    available_bytes: int | None
    """The memory that is free, in bytes."""
    clock_share: float | None = None
    """The permitted share of the highest clock rate, in (0, 1]: the smallest of the cores."""
    governor: str | None = None
    """The rule that chooses the clock rate, where Linux's own rule does and not the processor's driver."""
    throttled: bool = False
    """Whether the processor was slowed down because of heat, within the window."""
    on_battery: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    """The environment variables of OpenMP's libraries."""


def measure(seconds: float = WINDOW, root: Path = ROOT) -> Load:
    """Measure the load by others for ``seconds``, in which this process sleeps. root: the folder of proc and sys."""
    before, own, began = _busy_ticks(root), time.process_time(), time.perf_counter()
    time.sleep(seconds)
    after, own, took = _busy_ticks(root), time.process_time() - own, time.perf_counter() - began
    busy = None
    if before is not None and after is not None:
        others = (after - before) / os.sysconf("SC_CLK_TCK") - own
        busy = min(
            max(0.0, others / took), len(machine.allowed_cores())
        )  # a tick may fall on either side of the window's ends
    return Load(busy, _number(machine.read(root / "proc/loadavg").partition(" ")[0]))


def variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables of OpenMP's libraries."""
    return {name: value for name, value in environment.items() if name.startswith(VARIABLES)}


def snapshot(seconds: float = WINDOW, root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> Snapshot:
    """Measure the load for ``seconds`` and read the rest. environment: the variables of this process."""
    cores, allowed = os.cpu_count() or 1, machine.allowed_cores()
    processors = root / "sys/devices/system/cpu"
    hot = _throttle_count(processors)
    load = measure(seconds, root)
    clocks = [processors / f"cpu{core}/cpufreq" for core in allowed]
    return Snapshot(
        cores=cores,
        allowed=len(allowed),
        usable=machine.usable_cores(),
        load=load,
        available_bytes=available_bytes(root),
        clock_share=min(filter(None, map(_clock_share, clocks)), default=None),
        governor=next(filter(None, map(_governor, clocks)), None),
        throttled=_throttle_count(processors) > hot or any(_cooling(root)),
        on_battery=any(_discharging(root)),
        variables=variables(environment),
    )


def available_bytes(root: Path = ROOT) -> int | None:
    """Return the free memory in bytes: by /proc/meminfo, or by the control group if that is less; None if unknown."""
    kib = machine.proc_field(str(root / "proc/meminfo"), "MemAvailable").partition(" ")[0]
    free = [1024 * int(kib)] if kib.isdigit() else []
    limit, current = (machine.read(root / "sys/fs/cgroup" / name) for name in ("memory.max", "memory.current"))
    if limit.isdigit() and current.isdigit():  # a group without a limit says max
        free.append(max(0, int(limit) - int(current)))
    return min(free, default=None)


def _busy_ticks(root: Path) -> int | None:
    """Return the clock ticks since boot in which the allowed cores worked for any program."""
    names = {f"cpu{core}" for core in machine.allowed_cores()}
    lines = [line.split() for line in machine.read(root / "proc/stat").splitlines()]
    try:
        counts = [sum(int(times[place]) for place in BUSY) for name, *times in filter(None, lines) if name in names]
    except (ValueError, IndexError):
        return None
    return sum(counts) if counts else None


def _clock_share(folder: Path) -> float | None:
    limit, highest = (_number(machine.read(folder / name)) for name in ("scaling_max_freq", "cpuinfo_max_freq"))
    return limit / highest if limit and highest else None


def _governor(folder: Path) -> str | None:
    """Return the rule of a core; None where the processor's own driver chooses, whose "powersave" is a usual one."""
    driver = machine.read(folder / "scaling_driver")
    return (
        None if driver.startswith(("intel_pstate", "amd-pstate")) else machine.read(folder / "scaling_governor") or None
    )


def _throttle_count(processors: Path) -> float:
    """Return how often the allowed cores were slowed down since boot because of heat."""
    files = (processors / f"cpu{core}/thermal_throttle/core_throttle_count" for core in machine.allowed_cores())
    return sum(_number(machine.read(file)) or 0 for file in files)


def _cooling(root: Path) -> Iterator[bool]:
    for device in (root / "sys/class/thermal").glob("cooling_device*"):
        if machine.read(device / "type").startswith(COOLING):
            yield (_number(machine.read(device / "cur_state")) or 0) > 0


def _discharging(root: Path) -> Iterator[bool]:
    for supply in (root / "sys/class/power_supply").glob("*"):
        mouse = machine.read(supply / "scope") == "Device"  # or another thing with a battery of its own
        yield (
            machine.read(supply / "type") == "Battery"
            and not mouse
            and machine.read(supply / "status") == "Discharging"
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
