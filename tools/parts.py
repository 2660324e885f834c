"""The parts of an installation: one line each on the screen, and what their commands print in a log.

Uses the standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from typing import TextIO

KEPT = 8  # last lines of a command's output, which are shown where it fails
QUIET = 30  # seconds between two signs of life where the output is no terminal
GRACE = 5.0  # seconds that a command gets to end after SIGTERM
NAME = 36  # columns of a part's name on the screen


class LeftOut(Exception):
    """A part cannot be installed. The message is the reason, with the cure at its end."""


class Part:
    """A part of the installation, which works in a thread of its own.

    ``reason``: why the part was left out; empty if it is installed. ``seconds``: the time that it took.
    """

    def __init__(self, installation: Installation, name: str, work: Callable[[Part], None]) -> None:
        """Begin to work. work: called with this part; it raises LeftOut where the part cannot be installed."""
        self.name, self.reason, self.seconds = name, "", 0.0
        self.started = time.monotonic()
        self._installation, self._work = installation, work
        self._processes: list[subprocess.Popen[str]] = []
        self._stopped = False
        self.thread = Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._work(self)
        except (LeftOut, OSError) as error:
            self.reason = str(error)
        self.seconds = time.monotonic() - self.started

    def command(self, *command: str) -> tuple[bool, str]:
        """Run a command. Returns whether it succeeded, and the last lines of its output. Raises LeftOut if stopped."""
        last: deque[str] = deque(maxlen=KEPT)
        self._installation.log(self.name, "$ " + " ".join(command))
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that Ctrl-C reaches this program alone, which then ends the command
        ) as process:
            self._processes.append(process)
            if self._stopped:
                self.stop()
            assert process.stdout is not None
            for line in filter(str.strip, process.stdout):
                self._installation.log(self.name, line.rstrip())
                last.append(line.rstrip())
        if self._stopped:
            raise LeftOut("interrupted")
        return process.returncode == 0, "\n".join(last)

    def stop(self) -> None:
        """End the running command and its children. apt-get is left to end by itself, since dpkg would be damaged."""
        self._stopped = True
        for process in self._processes:
            if process.poll() is None and "apt-get" not in process.args:  # type: ignore[operator]
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


class Installation:
    """Prints a line for each part, and writes what the commands print to a log. Use it as a context manager.

    Left by an error, Ctrl-C included, it ends the commands that still run.
    """

    def __init__(self, log: Path, out: TextIO | None = None, *, append: bool = False) -> None:
        """log: the file of the commands' output, begun anew, or continued with append. out: by default stdout."""
        log.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._lock = open(log, "a" if append else "w", encoding="utf-8"), Lock()  # noqa: SIM115
        self._out = sys.stdout if out is None else out
        self._parts: list[Part] = []

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts:
            part.stop()
            part.thread.join()
        self._file.close()

    def log(self, name: str, line: str) -> None:
        """Write a line of a part's output to the log."""
        with self._lock:
            self._file.write(f"[{name}] {line}\n")
            self._file.flush()

    def begin(self, name: str, work: Callable[[Part], None]) -> Part:
        """Begin a part, beside those that work already."""
        self._parts.append(Part(self, name, work))
        return self._parts[-1]

    def end(self, part: Part) -> Part:
        """Wait for a part, print its line, and return it. A terminal shows the seconds as they pass."""
        terminal, said = self._out.isatty(), time.monotonic()
        while part.thread.is_alive():
            seconds = time.monotonic() - part.started
            if terminal:
                self._out.write(f"\r{_line(part.name, seconds)} ...")
            elif time.monotonic() - said >= QUIET:
                said = time.monotonic()
                self._out.write(f"{_line(part.name, seconds)} ...\n")
            self._out.flush()
            part.thread.join(1 if terminal else 0.1)
        erased = "\r\033[K" if terminal else ""
        left_out = "  left out" if part.reason else ""
        self._out.write(f"{erased}{_line(part.name, part.seconds)}{left_out}\n")
        for line in part.reason.splitlines():
            self._out.write(f"    {line}\n")
        self._out.flush()
        return part


def _line(name: str, seconds: float) -> str:
    return f"  {name:<{NAME}}{seconds:4.0f} s"
