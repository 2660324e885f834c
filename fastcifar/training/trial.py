"""Work in a process of its own with a time limit, because torch.compile cannot be stopped within this process."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any


class TooSlow(Exception):
    """The work did not end within its time."""


def within(seconds: float, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of ``work(*arguments)``, which runs in a new process, for at most ``seconds``.

    The arguments and the result are pickled. Raises TooSlow after that time, when the process and its children are
    ended, and RuntimeError with the first line of an error of the work.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(there, work, arguments))
    process.start()
    there.close()
    try:
        if not here.poll(seconds):
            raise TooSlow
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
    return answer


def _serve(there: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()  # its compilers belong to it, and end with it
    try:
        there.send((True, work(*arguments)))
    except Exception as error:  # the parent raises it again
        there.send((False, (str(error).strip() or type(error).__name__).splitlines()[0]))


def _end(pid: int) -> None:
    """End a process and the group that it leads. A process that has only just started leads none yet."""
    for end in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)
