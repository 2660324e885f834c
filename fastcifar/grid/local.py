"""Workers on this machine: one process for each CUDA device, or one for the CPU."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.grid.messages import Event, Job, Lost, Ready, Said
from fastcifar.grid.worker import Worker

PATIENCE = 10.0  # seconds until a worker that was asked to end is killed
STOP, CLOSE = "stop", "close"


class Local:
    """An executor that passes jobs to its workers and returns their events. A context manager that ends the workers."""

    def __init__(self, dataset: Dataset, out: Path, devices: Sequence[str], log: str = "none", way: str = "auto"):
        """Start a worker for each device. log, way: as `worker.Worker` takes them."""
        self._arguments = (dataset, out)
        self._options = (log, way)
        self._events: queue.Queue[tuple[str, Event]] = queue.Queue()
        self._processes: dict[str, Any] = {}
        self._pipes: dict[str, Connection] = {}
        self._closing = False
        for device in devices:
            self._start(device)

    def start(self, worker: str, job: Job) -> None:
        """Give a job to a worker whose last event was Ready or Done."""
        with suppress(OSError, KeyError):  # the worker has just ended; its event Lost follows
            self._pipes[worker].send(job)

    def event(self, timeout: float) -> tuple[str, Event] | None:
        """Return a worker's name and its next event, or None if no event comes within ``timeout`` seconds."""
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Tell all workers to end their jobs at the end of the current epoch."""
        self._send(STOP)

    def alive(self) -> int:
        """Return the number of workers that are running or starting."""
        return len(self._processes)

    def close(self) -> None:
        """End the workers. Their runs can resume from their last finished epoch."""
        self._closing = True
        self._send(CLOSE)
        for process in list(self._processes.values()):
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()

    def _send(self, message: str) -> None:
        for pipe in list(self._pipes.values()):
            with suppress(OSError):  # the worker has ended
                pipe.send(message)

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(
            target=_serve, args=(there, *self._arguments, device, *self._options), name=f"fastcifar {device}"
        )
        process.start()
        there.close()
        self._processes[device], self._pipes[device] = process, here
        threading.Thread(target=self._listen, args=(device, here, process), daemon=True).start()

    def _listen(self, device: str, pipe: Connection, process: Any) -> None:
        was_ready = False
        try:
            while True:
                event = pipe.recv()
                was_ready = was_ready or isinstance(event, Ready)
                self._events.put((device, event))
        except (EOFError, OSError):
            pass
        if self._closing:
            return
        process.join()
        if was_ready:  # a worker that never became ready would fail again
            self._start(device)
        else:
            del self._processes[device], self._pipes[device]
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
        self._events.put((device, Lost(f"the process on {device} {how}")))


def _serve(pipe: Connection, dataset: Dataset, out: Path, device: str, log: str, way: str) -> None:
    """Run a worker in this process. The process ends when the pipe breaks, which is when the grid's process ends."""
    for number in (signal.SIGINT, signal.SIGHUP):  # the grid's process handles Ctrl-C and the end of the terminal
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    jobs: queue.Queue[Job] = queue.Queue()
    sending = threading.Lock()  # two threads that send at once would mix their messages

    def tell(event: Event) -> None:
        with sending:
            try:
                pipe.send(event)
            except OSError:
                os._exit(1)

    try:
        worker = Worker(dataset, out, device, log, way)
    except Exception as error:  # sent as a message, since nobody would see the traceback
        tell(Said(f"{device} cannot be used: {error}"))
        raise

    def listen() -> None:
        try:
            while True:
                message = pipe.recv()
                if message == STOP:
                    worker.stop.set()
                elif message == CLOSE:
                    os._exit(0)  # safe at any time: an epoch is on the disk before its event is sent
                else:
                    jobs.put(message)
        except (EOFError, OSError):
            os._exit(1)  # the grid's process has ended

    threading.Thread(target=listen, daemon=True).start()
    tell(Ready(device))
    while True:
        worker.train(jobs.get(), tell)
