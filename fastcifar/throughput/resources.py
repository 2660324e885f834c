"""CPU seconds and memory of a process and its workers.

The process leads a session of its own (`process.Process` makes it), so the session is the process and its workers.
Without Linux's /proc, only the process itself is measured.
"""

import os
import time
from pathlib import Path

from fastcifar.errors import FastcifarError
from fastcifar.system.machine import proc_field

PROC = Path("/proc")
WINDOW, TICK = 0.1, 0.01  # seconds; Linux counts the CPU time of other processes in ticks of 10 ms
# fields of /proc/PID/stat after the name: session id; user and system time of the process and of its ended children
SESSION, TIMES = 3, slice(11, 15)


def cpu_seconds() -> float:
    """Return the CPU seconds so far of this process and its workers, including ended workers."""
    own = os.times()
    ticks = sum(sum(map(int, fields[TIMES])) for _, fields in _workers())
    return time.process_time() + own.children_user + own.children_system + ticks / os.sysconf("SC_CLK_TCK")


def worker_bytes() -> int:
    """Return the private memory of the workers, in bytes."""
    names = ("Private_Clean", "Private_Dirty")
    return sum(_kib(f"/proc/{pid}/smaps_rollup", name) for pid, _ in _workers() for name in names) * 1024


def forget_rss_peak() -> None:
    """Reset the peak that `measure.peak_rss_bytes` returns to the present value, where the system can do so."""
    try:
        (PROC / "self/clear_refs").write_text("5")
    except OSError:
        return


def come_to_rest(limit: float = 60) -> None:
    """Wait until the processes of this session use no CPU, so that other contestants can be timed.

    Raises FastcifarError after ``limit`` seconds.
    """
    until = time.monotonic() + limit
    before = cpu_seconds()
    while True:
        time.sleep(WINDOW)
        now = cpu_seconds()
        if now - before <= TICK:
            return
        if time.monotonic() > until:
            raise FastcifarError(
                f"goes on working {limit:g} s after its epoch was closed, on {(now - before) / WINDOW:.1f} cores, so "
                "that no other contestant can be timed; its workers must stop when an epoch is closed"
            )
        before = now


def _workers() -> list[tuple[str, list[str]]]:
    """Return the process ids and stat fields of the other processes of this session."""
    mine, session, workers = str(os.getpid()), str(os.getsid(0)), []
    for folder in PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended meanwhile
            continue
        if fields[SESSION] == session and folder.name != mine:
            workers.append((folder.name, fields))
    return workers


def _kib(path: str, name: str) -> int:
    return int(proc_field(path, name).split()[0] or 0) if proc_field(path, name) else 0
