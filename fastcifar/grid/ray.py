"""Workers on a Ray cluster: one long-lived actor for each GPU, or one for the CPUs of each node.

Nodes may join and leave at any time.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.grid.connection import (
    PATIENCE,
    NodeAffinitySchedulingStrategy,
    RayError,
    connected,
    is_alive,
    ray,
    reason,
    slots,
)
from fastcifar.grid.messages import Event, Job, Lost, Ready
from fastcifar.grid.remote import Contents, Place, Remote, shipped
from fastcifar.runs.directory import RunDirectory
from fastcifar.system.temporary import Hold, beside, claimed
from fastcifar.version import __version__

LOG = "ray.log"  # the file in the output folder for what Ray prints
INSTALL = f"; check that fastcifar {__version__} and its libraries are installed there, and read {{log}}"
LOOK = 5.0  # seconds between two checks for new nodes


class Cluster:
    """An executor that passes jobs to its workers and returns their events. A context manager that ends the workers."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        address: str | None = None,
        *,
        cuda: bool = False,
        log: str = "none",
        way: str = "auto",
    ) -> None:
        """address: as ray.init takes it. cuda: start a worker for each GPU, else one for all CPUs of each node.

        Raises FastcifarError where no cluster answers, UsageError where the cluster has no GPU, or no CPU.
        """
        self._log = out / LOG
        self._connection = ExitStack()
        self._dataset, self._out, self._cuda, self._options = dataset, out, cuda, (log, way)
        self._place = Place(dataset.path.resolve(), dataset.sha256, out.resolve(), beside(out / "shared").name)
        self._shared: Hold | None = None
        self._events: queue.Queue[tuple[str, Event]] = queue.Queue()
        self._jobs: dict[str, queue.Queue[Job]] = {}
        self._actors: dict[str, Any] = {}
        self._known: set[str] = set()
        self._shipped: Any = None
        self._guard, self._closing = threading.Lock(), threading.Event()
        self._connection.enter_context(connected(address, self._log))
        try:
            _, self._shared = claimed(self._sign)
            self._join()
            if not self._jobs:
                what, cure = (
                    ("GPU", "use its CPUs with --device cpu") if cuda else ("CPU", "start a node with --num-cpus")
                )
                raise UsageError(f"the Ray cluster {address or ''} has no {what}; {cure}")
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._look, daemon=True).start()

    def _sign(self) -> Path:
        """Make the file by which a worker sees that it shares the output folder with this process."""
        path = self._out / self._place.sign
        path.touch()
        return path

    def start(self, worker: str, job: Job) -> None:
        """Give a job to a worker whose last event was Ready or Done."""
        with suppress(KeyError):  # the worker was just lost; its event Lost follows
            self._jobs[worker].put(job)

    def event(self, timeout: float) -> tuple[str, Event] | None:
        """Return a worker's name and its next event, or None if no event comes within ``timeout`` seconds."""
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Tell all workers to end their jobs at the end of the current epoch."""
        for actor in list(self._actors.values()):
            actor.stop.remote()

    def alive(self) -> int:
        """Return the number of workers that are running or starting."""
        return len(self._jobs)

    def close(self) -> None:
        """End the workers, and the connection to the cluster if this object made it."""
        self._closing.set()
        actors = list(self._actors.values())
        with self._connection:
            with suppress(RayError):
                cleaned = [actor.close.remote() for actor in actors]
                ray.wait(cleaned, num_returns=len(cleaned), timeout=PATIENCE) if cleaned else None
            for actor in actors:
                ray.kill(actor)
            if self._shared is not None:
                (self._out / self._place.sign).unlink(missing_ok=True)
                self._shared.end()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> None:
        while not self._closing.wait(LOOK):
            with suppress(RayError):
                self._join()

    def _join(self) -> None:
        """Start a worker in each slot of the cluster that has none yet."""
        for name, node, cores in slots(self._cuda):
            if name not in self._known:
                self._known.add(name)
                self._jobs[name] = queue.Queue()
                threading.Thread(target=self._drive, args=(name, node, cores), daemon=True).start()

    def _drive(self, name: str, node: str, cores: int) -> None:
        """Run a worker in a slot, and replace it when it is lost, until one fails to start or its node is gone."""
        while not self._closing.is_set():
            was_ready = False
            try:
                actor = self._actor(node, cores)
                self._actors[name] = actor
                if ray.get(actor.lacks.remote()):
                    ray.get(actor.receive.remote(self._packed()))
                shared = ray.get(actor.begin.remote())
                was_ready = True
                self._events.put((name, Ready(name)))
                while True:
                    job = self._jobs[name].get()
                    for event in actor.train.remote(job, {} if shared else dict(self._earlier(job))):
                        self._events.put((name, ray.get(event)))
            except Exception as error:  # after any error, another worker must get the job
                if self._closing.is_set():
                    return
                if was_ready:
                    why = f"the worker on {name} was lost ({reason(error)})"
                else:
                    why = f"{name} cannot be used: {reason(error, INSTALL.format(log=self._log))}"
                with suppress(OSError), open(self._log, "a", encoding="utf-8") as log:
                    log.write(f"{why}:\n{error}\n")
            goes_on = was_ready and is_alive(node)
            if goes_on:
                self._jobs[name] = queue.Queue()
            else:
                del self._jobs[name]
                self._actors.pop(name, None)
            self._events.put((name, Lost(why)))
            if not goes_on:
                return

    def _actor(self, node: str, cores: int) -> Any:
        made = ray.remote(Remote).options(
            num_cpus=1 if self._cuda else cores,
            num_gpus=1 if self._cuda else 0,
            max_concurrency=2,  # so that stop and close run during train
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        return made.remote(self._place, "cuda:0" if self._cuda else "cpu", cores, *self._options)

    def _packed(self) -> Any:
        """Return the dataset's reference in Ray's object store. The first call puts it there."""
        with self._guard:
            if self._shipped is None:
                self._shipped = ray.put(shipped(self._dataset))
            return self._shipped

    def _earlier(self, job: Job) -> Iterator[tuple[str, Contents]]:
        for spec in job.specs:
            files = RunDirectory.of(spec, self._out).files()
            if files:
                yield spec.run_id, {file.name: file.read_bytes() for file in files}
