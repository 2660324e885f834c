"""Start processes that end with their parent, and end processes together with their descendants."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

GRACE = 8.0  # seconds from SIGTERM to SIGKILL
KILLED = 3.0  # most seconds to wait after SIGKILL


def tied(arguments: Sequence[str]) -> list[str]:
    """Return a Python command that Linux kills when its parent process has ended for any reason."""
    code = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", code, sys.executable, *arguments]


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all its descendants: SIGTERM, then SIGKILL. Waits at most GRACE + KILLED seconds."""
    family = _family(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    _kill(family | _family(process.pid))
    with suppress(subprocess.TimeoutExpired):  # a process that waits for a driver cannot be killed
        process.wait(KILLED)


def end_session(leader: int) -> None:
    """Kill the remaining processes of a session whose leader has ended."""
    _kill({pid for pid, (_, session) in process_table().items() if session == leader})


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def process_table() -> dict[int, tuple[int, int]]:
    """Return the parent and the session of every process of this machine, by process id."""
    table = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, parent, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            table[int(stat.parent.name)] = int(parent), int(session)
    return table


def _family(pid: int) -> set[int]:
    """Return the ids of a session's leader, its session, and the descendants of both."""
    family, everybody = {pid}, process_table()
    grown = True
    while grown:
        more = {one for one, (parent, session) in everybody.items() if parent in family or session == pid}
        grown = not more <= family
        family |= more
    return family
