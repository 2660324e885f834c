"""What would spoil a measurement on this machine: each with its value, the bound and the cure.

`checks` decides from a snapshot (`load.snapshot`) alone.
"""

from dataclasses import dataclass

from fastcifar.system import load
from fastcifar.system.load import Snapshot

BUSY_SHARE = 0.1
"""The share of the usable cores that other programs may use."""
LEAST_CORES = 2
"""With fewer cores, the batches and the program that takes them wait for each other."""
CLOCK_SHARE = 0.9
"""The share of the highest clock rate that must be permitted."""
SLOW = ("powersave", "conservative", "userspace")
"""The rules (governors) under which the clock rate stays low, or rises late."""
LEAST_BYTES = 2 << 30
"""A pipeline's process takes up to 1.3 GB with CIFAR-10 (bench/results/throughput-cpu.jsonl)."""
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
GIB = 1 << 30


@dataclass(frozen=True)
class Check:
    """One check. ok: whether measurements are good. detail: the value, and the bound. cure: empty where ok."""

    name: str
    ok: bool
    detail: str
    cure: str = ""


def look(seconds: float = load.WINDOW) -> list[Check]:
    """Check this machine, for ``seconds`` in which this process sleeps. Nothing else of the caller may work then."""
    return checks(load.snapshot(seconds))


def spoiling(found: list[Check]) -> list[str]:
    """Return a sentence for each check that is not ok."""
    return [f"{check.name}: {check.detail}; {check.cure}" for check in found if not check.ok]


def load_text(found: load.Load, cores: int) -> str:
    """Return the load as a phrase. cores: the number of cores on which it was measured."""
    busy = "an unknown number of cores" if found.busy_cores is None else f"{found.busy_cores:.1f} of {cores} cores"
    return busy + ("" if found.load_average is None else f", load average {found.load_average:.1f}")


def busy(cores: float | None, allowed: int, usable: int) -> bool:
    """Return whether other programs take more than BUSY_SHARE of the usable cores from this process.

    cores: the cores that they use of ``allowed``; None: unknown, which counts as not busy.
    """
    return cores is not None and cores > allowed - usable + BUSY_SHARE * usable


def checks(found: Snapshot) -> list[Check]:
    """Return the result of every check for a snapshot. A value that is unknown is ok."""
    return [_others(found), _cores(found), _clock(found), _memory(found), _power(found), _openmp(found)]


def _check(name: str, ok: bool, detail: str, cure: str) -> Check:
    return Check(name, ok, detail, "" if ok else cure)


def _others(found: Snapshot) -> Check:
    allowed, usable = found.allowed, found.usable
    taken = busy(found.load.busy_cores, allowed, usable)
    if found.load.busy_cores is None and found.load.load_average is not None:
        taken = busy(found.load.load_average, allowed, usable)
    bound = allowed - usable + BUSY_SHARE * usable
    cure = "end them, or wait until they have ended (top shows them); then compare ratios alone"
    return _check(
        "other programs",
        not taken,
        f"they use {load_text(found.load, allowed)}; at most {bound:.1f} leave the {usable} usable cores free",
        cure,
    )


def _cores(found: Snapshot) -> Check:
    ok = found.usable >= LEAST_CORES
    detail = f"{found.usable} of {found.cores} can be used" + ("" if ok else f", and {LEAST_CORES} are the least")
    return _check("cores", ok, detail, "give this process more, by its affinity (taskset) or its control group's quota")


def _clock(found: Snapshot) -> Check:
    def result(ok: bool, detail: str, cure: str = "") -> Check:
        return _check("clock rate", ok, detail, cure)

    if found.throttled:
        return result(False, "the processor slows down because of heat", "let it cool down, and take fewer --threads")
    if found.clock_share is not None and found.clock_share < CLOCK_SHARE:
        detail = f"limited to {found.clock_share:.0%} of the highest one, and {CLOCK_SHARE:.0%} is the least"
        return result(False, detail, "raise it with: cpupower frequency-set --max")
    if found.governor in SLOW:
        detail = f"chosen by the rule {found.governor}, under which it rises late or never"
        return result(False, detail, "choose another one with: cpupower frequency-set --governor performance")
    known = found.clock_share is not None or found.governor is not None
    return result(True, "not limited" if known else "no limit is known")


def _memory(found: Snapshot) -> Check:
    free = found.available_bytes
    if free is None:
        return Check("free memory", True, "unknown")
    detail = f"{free / GIB:.1f} GiB" + ("" if free >= LEAST_BYTES else f", and {LEAST_BYTES / GIB:.0f} GiB are needed")
    return _check("free memory", free >= LEAST_BYTES, detail, "end other programs, or name fewer --pipelines")


def _power(found: Snapshot) -> Check:
    detail = "from a battery, which limits the clock rate" if found.on_battery else "not from a battery"
    return _check("power", not found.on_battery, detail, "connect the charger")


def _openmp(found: Snapshot) -> Check:
    """Check the variables of OpenMP that change how torch's threads share the cores."""
    variables = found.variables
    wrong, cures = [], []
    threads = variables.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if threads and threads != str(found.usable):
        wrong.append(f"OMP_NUM_THREADS is {threads}, and {found.usable} cores can be used")
        cures.append("OMP_NUM_THREADS")
    for name in BINDING:
        value = variables.get(name, "")
        if value and value.lower() not in ("false", "none", "disabled"):
            wrong.append(f"{name} is {value}, which puts the threads of every process on the same cores")
            cures.append(name)
    if not wrong:
        return Check(
            "OpenMP", True, ", ".join(f"{n}={v}" for n, v in sorted(variables.items())) or "no variable is set"
        )
    return Check("OpenMP", False, "; ".join(wrong), f"unset {' '.join(cures)}")
