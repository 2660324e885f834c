"""What a process and all that it started use: CPU seconds and memory. The process leads a session of its own
(`process.Process` sees to that), so its session is itself and its workers. Without Linux's /proc: itself alone.
"""

import os
import time
from pathlib import Path

from fastcifar.errors import FastcifarError
from fastcifar.system.machine import proc_field

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
WINDOW, TICK = 0.1, 0.01  # seconds; Linux counts the CPU time of other processes in ticks of 10 ms
SESSION, TIMES = 3, slice(11, 15)  # fields of /proc/PID/stat after the name; user, system, and of ended children


def cpu_seconds() -> float:
    """CPU seconds so far of this process, its workers and those of them that ended."""
    own = os.times()
    ticks = sum(sum(map(int, fields[TIMES])) for _, fields in _workers())
    return time.process_time() + own.children_user + own.children_system + ticks / os.sysconf("SC_CLK_TCK")


def worker_bytes() -> int:
    """Memory of the workers that they share with nobody, in bytes."""
    names = ("Private_Clean", "Private_Dirty")
    return sum(_kib(f"/proc/{pid}/smaps_rollup", name) for pid, _ in _workers() for name in names) * 1024


def available_bytes() -> int:
    """Memory that the system could still give, in bytes: all that is held counts, also what processes share."""
    free = _kib("/proc/meminfo", "MemAvailable") * 1024
    try:
        limit, current = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no control group, or one without a limit
        return free
    return min(free, limit - current)


def forget_rss_peak() -> None:
    """Let `measure.peak_rss_bytes` begin again from what is held now; does nothing where the system cannot."""
    try:
        (PROC / "self/clear_refs").write_text("5")
    except OSError:
        return


def come_to_rest(limit: float = 60) -> None:
    """Return once the session stands still, so that others can be timed. Raises FastcifarError after limit seconds."""
    until = time.monotonic() + limit
    before = cpu_seconds()
    while True:
        time.sleep(WINDOW)
        now = cpu_seconds()
        if now - before <= TICK:
            return
        if time.monotonic() > until:
            raise FastcifarError(
                f"goes on working {limit:g} s after its epoch was left, {(now - before) / WINDOW:.1f} cores of it: "
                "nobody else can be timed beside it"
            )
        before = now


def _workers() -> list[tuple[str, list[str]]]:
    """The process ids and stat fields of the other processes of this session."""
    mine, session, found = str(os.getpid()), str(os.getsid(0)), []
    for folder in PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if fields[SESSION] == session and folder.name != mine:
            found.append((folder.name, fields))
    return found


def _kib(path: str, name: str) -> int:
    return int(proc_field(path, name).split()[0] or 0) if proc_field(path, name) else 0
