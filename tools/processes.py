"""Processes that end with whoever started them, and that take with them what they started."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

GRACE = 8.0  # seconds that a process has to end by itself once it is asked to
KILLED = 3.0  # seconds until one that was killed is gone


def tied(arguments: Sequence[str]) -> list[str]:
    """A Python command that Linux kills when the process that starts it has ended, whatever ended that."""
    code = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", code, sys.executable, *arguments]


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started: asked first, then made to. Waits no longer than GRACE and KILLED."""
    family = _family(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    _kill(family | _family(process.pid))
    with suppress(subprocess.TimeoutExpired):  # one that waits for a driver cannot even be killed
        process.wait(KILLED)


def end_session(leader: int) -> None:
    """Kill what is left of a session, whose leader has ended."""
    _kill({pid for pid, (_, session) in process_table().items() if session == leader})


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def process_table() -> dict[int, tuple[int, int]]:
    """Parent and session of every process of this machine."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, parent, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            found[int(stat.parent.name)] = int(parent), int(session)
    return found


def _family(pid: int) -> set[int]:
    """A session's leader, its session, and whoever descends from either."""
    found, everybody = {pid}, process_table()
    grown = True
    while grown:
        more = {one for one, (parent, session) in everybody.items() if parent in found or session == pid}
        grown = not more <= found
        found |= more
    return found
