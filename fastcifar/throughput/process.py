"""A contestant's process, from outside: started, asked one thing at a time, never waited for without end, ended."""

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
POLL = 0.5  # seconds: a dead process whose workers still hold its pipe open is noticed after as long
GRACE = 10  # seconds to close the pipeline and go
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class ContestantFailed(FastcifarError):
    """It crashed, hung or reported an error; the message is the reason."""


class Process:
    """One contestant's process, in a session of its own with whatever it starts."""

    def __init__(self, contestant: Contestant, timeout: float) -> None:
        """Start it and wait until its pipeline is open; timeout: seconds for this and for each answer.

        ``opening`` is Racer.opening. Raises ContestantFailed.
        """
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (close does it)
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
        """Send an order; its answer. Raises ContestantFailed, and then the process is gone."""
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
                what = "take its turn" if "seconds" in order else "open"
                raise ContestantFailed(f"did not {what} in {self._timeout:g} s, and was ended{self._last_words()}")
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise ContestantFailed(self._ended())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> str:
        code = self._process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        if code == -signal.SIGKILL:
            how += ", as when memory runs out: try a smaller batch"
        return f"its process ended {how}{self._last_words()}"

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return f"; last it wrote: {lines[-1][:300]}" if lines else ""

    def close(self, grace: float = GRACE) -> None:
        """End the process and all that it started, by force after ``grace`` seconds. May be called again."""
        if self._errors.closed:
            return
        with suppress(BrokenPipeError), suppress(subprocess.TimeoutExpired):  # an order that nobody will read
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # also workers that outlived it
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


def _environment(threads: int) -> dict[str, str]:
    """This process's variables, the number of threads, and the path where the child finds this same fastcifar."""
    path = [str(machine.PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    counts = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **counts, "PYTHONPATH": os.pathsep.join(filter(None, path))}
