"""Work in a process of its own with a time limit, because torch.compile cannot be stopped within this process."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from fastcifar.errors import first_line

NEWS = 30.0  # seconds from one call of ``waiting`` to the next


class TooSlow(Exception):
    """The work did not end within its time."""


def within(
    seconds: float, waiting: Callable[[float], None], work: Callable[..., Any], *arguments: Any
) -> tuple[Any, float]:
    """Return the result of ``work(*arguments)``, which runs in a new process, and the seconds that this took.

    The arguments and the result are pickled. What the process prints is dropped. waiting: called every NEWS seconds
    with the seconds so far. Raises TooSlow after ``seconds``, when the process and its children are ended, and
    RuntimeError with the first line of an error of the work. The process also ends when this one does.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, work, arguments))
    started = time.perf_counter()
    process.start()
    there.close()
    try:
        while not here.poll(min(NEWS, max(0.0, started + seconds - time.perf_counter()))):
            spent = time.perf_counter() - started
            if spent >= seconds:
                raise TooSlow
            waiting(spent)
        fine, answer = here.recv()
    except EOFError as error:
        raise RuntimeError("its process has ended") from error
    finally:
        assert process.pid is not None
        _end(process.pid)
        process.join()
        here.close()
    if not fine:
        raise RuntimeError(answer)
    return answer, time.perf_counter() - started


def _serve(there: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()  # its compilers belong to it, and end with it
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # the parent may show a progress bar
        os.dup2(nowhere, descriptor)
    threading.Thread(target=_end_with_the_parent, args=(there,), daemon=True).start()
    try:
        there.send((True, work(*arguments)))
    except Exception as error:  # the parent raises it again
        there.send((False, first_line(error)))


def _end_with_the_parent(there: Connection) -> None:
    """Wait for the end of the pipe, which the parent never writes to, and then end this process and its children."""
    with suppress(EOFError, OSError):
        there.recv()
    _end(os.getpid())


def _end(pid: int) -> None:
    """End a process and the group that it leads. A process that has only just started leads none yet."""
    for end in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)
