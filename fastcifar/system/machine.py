"""The machine and the software: facts, read without importing any heavy library."""

import os
import platform
import re
import subprocess
from contextlib import suppress
from ctypes import CDLL
from importlib import metadata
from pathlib import Path

from fastcifar.errors import UsageError

# of malloc.h, in bytes: M_TRIM_THRESHOLD, free memory at the heap's end that is given back; M_MMAP_THRESHOLD, the size
# of an allocation that is a mapping of its own, given back at once. Both are more than a step of training needs.
GLIBC_THRESHOLDS = {-1: 2**31 - 1, -3: 2**30}
PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = PACKAGE.parent
RESULTS = ("bench/results", "docs/gallery/runs")
TOLD = "FASTCIFAR_COMMIT"  # the variable that says which commit a copy without .git is of
_most_cores: int | None = None  # of this process, where it was told to keep to so many


def usable_cores() -> int:
    """CPU cores this process may keep busy: its affinity, cut to its control group's quota and to `keep_to_cores`; at
    least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(cores, _most_cores or cores)
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    return max(1, min(cores, int(quota) // int(period))) if quota.isdigit() else cores


def keep_to_cores(count: int) -> None:
    """Have this process use no more cores than so many, for as long as it lives: those that a scheduler lent it."""
    global _most_cores
    _most_cores = count


def memory_bytes() -> int:
    """Memory this process may use, in bytes: the machine's, cut to its control group's limit."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read("/sys/fs/cgroup/memory.max")
    return min(machine, int(limit)) if limit.isdigit() else machine


def keep_freed_memory() -> None:
    """Have the C library keep what this process frees for what it allocates next, for as long as it lives.

    A step of training allocates and frees tens of megabytes of activations. glibc gives them back to the system, which
    then has to clear each page anew: on a virtual machine a quarter of a step. No effect with another C library.
    """
    with suppress(AttributeError, OSError):
        adjust = CDLL(None).mallopt
        for option, threshold in GLIBC_THRESHOLDS.items():
            adjust(option, threshold)


def cpu_model() -> str:
    """The processor's name as it gives it."""
    return proc_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Instruction-set flags of the processor, as Linux names them; empty where there is no /proc/cpuinfo."""
    return frozenset((proc_field("/proc/cpuinfo", "flags") or proc_field("/proc/cpuinfo", "Features")).split())


def gpus() -> list[dict[str, str]]:
    """NVIDIA devices by the driver's own tool: name, driver, memory_mib, capability. Empty where there are none."""
    listed = _output(
        "nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits"
    )
    keys = ("name", "driver", "memory_mib", "capability")
    rows = [line.split(", ") for line in (listed or "").splitlines()]
    return [dict(zip(keys, row, strict=True)) for row in rows if len(row) == len(keys)]  # else it is a message


def commit() -> tuple[str, bool] | tuple[None, None]:
    """The checkout's commit and whether its files differ from it; (None, None) for an installed package.

    Files under bench/results and docs/gallery/runs do not count as differing: they are what is being measured, not what
    is measured with. A copy that travelled without its .git is told by the variable FASTCIFAR_COMMIT: `told_commit`.
    """
    # A package installed in somebody else's repository must not report that repository's commit.
    if _output("git", "-C", str(CHECKOUT), "rev-parse", "--show-toplevel") != str(CHECKOUT):
        return (None, None) if (CHECKOUT / ".git").exists() else told_commit(os.environ.get(TOLD, ""))
    head = _output("git", "-C", str(CHECKOUT), "rev-parse", "HEAD")
    others = [f":(exclude){folder}" for folder in RESULTS]
    changed = _output("git", "-C", str(CHECKOUT), "status", "--porcelain", "--", ".", *others)
    return (None, None) if head is None else (head, bool(changed))


def told_commit(text: str) -> tuple[str, bool] | tuple[None, None]:
    """A commit as people pass it on: 7 to 64 hexadecimal digits, and a + where files differ from it; (None, None) for
    an empty text. Raises UsageError for anything else.
    """
    if not text:
        return None, None
    if not re.fullmatch(r"[0-9a-f]{7,64}\+?", text):
        raise UsageError(f"{TOLD} {text!r} is no commit: 7 to 64 hexadecimal digits, and a + where files differ")
    return text.removesuffix("+"), text.endswith("+")


def version(*distributions: str) -> str | None:
    """The version of the first of these distributions that is installed, or None; imports none of them."""
    return next((found.version for name in distributions for found in metadata.distributions(name=name)), None)


def process_started(pid: int) -> str | None:
    """When a process of this machine began, in the kernel's ticks; None where there is none (any more), or no /proc.

    Together with its number this names a process: numbers are used again.
    """
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return None if not fields or fields[0] == "Z" else fields[19]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def proc_field(path: str, name: str) -> str:
    """The first ``name : value`` line of a /proc file; empty where there is none."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _output(*command: str) -> str | None:
    """What a command prints, or None where it is missing, fails or does not answer in 20 seconds."""
    # git sets variables like GIT_DIR for its hooks; they would turn -C to another repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(command, env=inherited, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
