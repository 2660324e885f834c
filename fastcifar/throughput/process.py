"""Start, control and end a contestant's process. It gets one order at a time, and every wait has a time limit."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fastcifar.errors import FastcifarError
from fastcifar.system import machine
from fastcifar.throughput.contestant import Contestant

COMMAND = (sys.executable, "-m", "fastcifar.throughput.child")
POLL = 0.5  # seconds between two checks for a dead process, whose workers may still hold its pipe open
GRACE = 10  # seconds that the process gets to close the pipeline and end
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class ContestantFailed(FastcifarError):
    """A contestant crashed, hung or reported an error. The message is the reason."""


class Process:
    """One contestant's process. It leads a session of its own, to which its children belong."""

    def __init__(self, contestant: Contestant, timeout: float) -> None:
        """Start the process and wait until its pipeline is open. timeout: seconds for the opening and for each answer.

        ``opening`` is Racer.opening. Raises ContestantFailed.
        """
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (the method close closes it)
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(contestant.threads),
            start_new_session=True,
        )
        self.opening = self.ask(asdict(contestant))

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send an order to the child process and return its answer.

        Where the child reports an error, dies or does not answer in time, end it and raise ContestantFailed."""
        try:
            answer = self._exchange(order)
        except BaseException:
            self.close(grace=0)
            raise
        if "error" in answer:
            self.close()
            raise ContestantFailed(answer["error"])
        return answer

    def _exchange(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise ContestantFailed(self._ended()) from error
        until = time.monotonic() + self._timeout
        while not select.select([self._process.stdout], [], [], POLL)[0]:
            if self._process.poll() is not None:
                raise ContestantFailed(self._ended())
            if time.monotonic() > until:
                task = "take its turn" if "seconds" in order else "open"
                raise ContestantFailed(f"did not {task} in {self._timeout:g} s, and was ended{self._last_line()}")
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise ContestantFailed(self._ended())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> str:
        code = self._process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        if code == -signal.SIGKILL:
            how += ", perhaps as memory ran out; choose a smaller --batch-size"
        return f"its process ended {how}{self._last_line()}"

    def _last_line(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return f"; its last output was: {lines[-1][:300]}" if lines else ""

    def close(self, grace: float = GRACE) -> None:
        """End the process and its children, by SIGKILL after ``grace`` seconds. Further calls do nothing."""
        if self._errors.closed:
            return
        with suppress(BrokenPipeError), suppress(subprocess.TimeoutExpired):  # it may have ended already, or be stuck
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # workers may have outlived the process
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def _environment(threads: int) -> dict[str, str]:
    """Return this process's variables, plus the number of threads and the path of this fastcifar package."""
    path = [str(machine.PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    counts = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **counts, "PYTHONPATH": os.pathsep.join(filter(None, path))}
