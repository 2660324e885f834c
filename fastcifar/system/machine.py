"""Facts about the machine and the installed software, read without importing a large library."""

import os
import platform
import re
import subprocess
from contextlib import suppress
from ctypes import CDLL
from functools import cache
from glob import glob
from importlib import metadata
from pathlib import Path

from fastcifar.errors import UsageError

# Options of mallopt (malloc.h), in bytes. Above M_TRIM_THRESHOLD (-1), free memory at the end of the heap goes back to
# the system. From M_MMAP_THRESHOLD (-3) on, an allocation is a separate mapping, which goes back when it is freed.
# Both values are larger than a training step needs.
GLIBC_THRESHOLDS = {-1: 2**31 - 1, -3: 2**30}
PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = PACKAGE.parent
RESULTS = ("bench/results", "docs/gallery/runs")
TOLD = "FASTCIFAR_COMMIT"  # the environment variable that gives the commit of a copy without .git
_most_cores: int | None = None  # the limit that `keep_to_cores` set for this process


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use, at least 1.

    It is the smallest of the CPU affinity, the quota of the control group and the limit of `keep_to_cores`.
    """
    cores = len(allowed_cores())
    cores = min(cores, _most_cores or cores)
    quota, _, period = read("/sys/fs/cgroup/cpu.max").partition(" ")
    return max(1, min(cores, int(quota) // int(period))) if quota.isdigit() else cores


def allowed_cores() -> list[int]:
    """Return the numbers of the cores in this process's affinity."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@cache
def last_cache() -> int:
    """Return the bytes of the largest cache that processor 0 uses; 32 MiB where Linux does not say."""
    sizes = [read(path) for path in glob("/sys/devices/system/cpu/cpu0/cache/index*/size")]
    return max((int(size[:-1]) << 10 for size in sizes if size[:-1].isdigit() and size[-1] == "K"), default=32 << 20)


def keep_to_cores(count: int) -> None:
    """Limit this process to ``count`` cores for the rest of its life, because a scheduler gave it no more."""
    global _most_cores
    _most_cores = count


def memory_bytes() -> int:
    """Return the memory that this process may use, in bytes: the machine's, or its control group's limit if smaller."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = read("/sys/fs/cgroup/memory.max")
    return min(machine, int(limit)) if limit.isdigit() else machine


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for later allocations, for the rest of this process's life.

    A training step allocates and frees tens of megabytes of activations. glibc returns them to the system, which then
    has to clear each page again. On a virtual machine this takes a quarter of a step. With another C library this
    function has no effect.
    """
    with suppress(AttributeError, OSError):
        adjust = CDLL(None).mallopt
        for option, threshold in GLIBC_THRESHOLDS.items():
            adjust(option, threshold)


def cpu_model() -> str:
    """Return the model name of the processor."""
    return proc_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Return the processor's instruction-set flags with Linux's names; empty without /proc/cpuinfo."""
    return frozenset((proc_field("/proc/cpuinfo", "flags") or proc_field("/proc/cpuinfo", "Features")).split())


def gpus() -> list[dict[str, str]]:
    """Return name, driver, memory_mib and capability of each NVIDIA device, from nvidia-smi; empty without one."""
    listed = _output(
        "nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits"
    )
    keys = ("name", "driver", "memory_mib", "capability")
    rows = [line.split(", ") for line in (listed or "").splitlines()]
    return [dict(zip(keys, row, strict=True)) for row in rows if len(row) == len(keys)]  # other lines are messages


def commit() -> tuple[str, bool] | tuple[None, None]:
    """Return the checkout's commit and whether its files differ from it; (None, None) for an installed package.

    Changed files below bench/results and docs/gallery/runs are ignored, because they hold results, not code. A copy
    without .git takes its commit from the environment variable FASTCIFAR_COMMIT: see `told_commit`.
    """
    # A package installed in somebody else's repository must not report that repository's commit.
    if _output("git", "-C", str(CHECKOUT), "rev-parse", "--show-toplevel") != str(CHECKOUT):
        return (None, None) if (CHECKOUT / ".git").exists() else told_commit(os.environ.get(TOLD, ""))
    head = _output("git", "-C", str(CHECKOUT), "rev-parse", "HEAD")
    others = [f":(exclude){folder}" for folder in RESULTS]
    changed = _output("git", "-C", str(CHECKOUT), "status", "--porcelain", "--", ".", *others)
    return (None, None) if head is None else (head, bool(changed))


def told_commit(text: str) -> tuple[str, bool] | tuple[None, None]:
    """Return the commit that a text names, and whether files differ from it; (None, None) for an empty text.

    text: 7 to 64 hexadecimal digits, then a + if files differ. Raises UsageError for any other text.
    """
    if not text:
        return None, None
    if not re.fullmatch(r"[0-9a-f]{7,64}\+?", text):
        raise UsageError(f"{TOLD} {text!r} is no commit: 7 to 64 hexadecimal digits, and a + where files differ")
    return text.removesuffix("+"), text.endswith("+")


def version(*distributions: str) -> str | None:
    """Return the version of the first installed distribution of this list, or None, without importing any."""
    return next((copy.version for name in distributions for copy in metadata.distributions(name=name)), None)


def process_started(pid: int) -> str | None:
    """Return the start time of a process of this machine, in clock ticks since boot.

    It is None if the process does not exist or has ended, and without /proc. The id and the start time together
    identify a process, because the system reuses ids.
    """
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return None if not fields or fields[0] == "Z" else fields[19]


def read(path: str | Path) -> str:
    """Return the text of a file of the system, stripped; empty if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def proc_field(path: str, name: str) -> str:
    """Return the value of the first ``name : value`` line of a /proc file; empty if there is no such line."""
    for line in read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _output(*command: str) -> str | None:
    """Return what a command prints, stripped; None if it is missing, fails or takes more than 20 seconds."""
    # git sets variables like GIT_DIR for its hooks; with them, -C would read another repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(command, env=inherited, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
