"""Workers on this machine: a process for each CUDA device, or one for the CPU."""

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

PATIENCE = 10.0  # seconds that a worker has to end by itself
STOP, CLOSE = "stop", "close"


class Local:
    """An executor: takes jobs for its workers and tells their events. A context manager: leaving it ends them."""

    def __init__(self, dataset: Dataset, out: Path, devices: Sequence[str], log: str = "none", way: str = "auto"):
        self._arguments = (dataset, out)
        self._options = (log, way)
        self._events: queue.Queue[tuple[str, Event]] = queue.Queue()
        self._processes: dict[str, Any] = {}
        self._pipes: dict[str, Connection] = {}
        self._closing = False
        for device in devices:
            self._start(device)

    def start(self, worker: str, job: Job) -> None:
        """Give a worker that is ready, or done, a job."""
        with suppress(OSError, KeyError):  # it has just ended, which is told next
            self._pipes[worker].send(job)

    def event(self, timeout: float) -> tuple[str, Event] | None:
        """What a worker, named first, tells next; None where there is nothing for ``timeout`` seconds."""
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Have all jobs end at their runs' next epochs."""
        self._tell(STOP)

    def alive(self) -> int:
        """Workers that are there, or being started."""
        return len(self._processes)

    def close(self) -> None:
        """End the workers; what they train goes on from its last whole epoch another time."""
        self._closing = True
        self._tell(CLOSE)
        for process in list(self._processes.values()):
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()

    def _tell(self, message: str) -> None:
        for pipe in list(self._pipes.values()):
            with suppress(OSError):  # it has ended
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
        if was_ready:  # one that could not even begin would not be able to another time
            self._start(device)
        else:
            del self._processes[device], self._pipes[device]
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
        self._events.put((device, Lost(f"the process on {device} {how}")))


def _serve(pipe: Connection, dataset: Dataset, out: Path, device: str, log: str, way: str) -> None:
    """A worker's process. It ends as soon as that of the grid does, however that ends: the pipe breaks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the grid's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    jobs: queue.Queue[Job] = queue.Queue()
    speaking = threading.Lock()

    def tell(event: Event) -> None:
        with speaking:
            try:
                pipe.send(event)
            except OSError:
                os._exit(1)

    try:
        worker = Worker(dataset, out, device, log, way)
    except Exception as error:  # said, since nobody would see its traceback
        tell(Said(f"{device} cannot be used: {error}"))
        raise

    def listen() -> None:
        try:
            while True:
                message = pipe.recv()
                if message == STOP:
                    worker.stop.set()
                elif message == CLOSE:
                    os._exit(0)  # every epoch is on the disk before it is told
                else:
                    jobs.put(message)
        except (EOFError, OSError):
            os._exit(1)  # the grid has died

    threading.Thread(target=listen, daemon=True).start()
    tell(Ready(device))
    while True:
        worker.train(jobs.get(), tell)
