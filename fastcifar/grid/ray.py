"""Workers on a Ray cluster: one long-lived actor for each GPU, or for the CPUs of each node; nodes may come and go."""

import logging
import os
import queue
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.grid.messages import Event, Job, Lost, Ready, Said
from fastcifar.grid.remote import Contents, Place, Remote, shipped
from fastcifar.runs.directory import RunDirectory

LOOK = 5.0  # seconds between looks for nodes that have joined
PATIENCE = 5.0  # seconds that actors have to clean up

try:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise UsageError(f"--executor ray needs Ray ({error}): pip install 'fastcifar[ray]'") from error


class Cluster:
    """An executor: takes jobs for its workers and tells their events. A context manager: leaving it ends them."""

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
        """address: as ray.init takes it. cuda: a worker for each GPU, else one for all CPUs of each node.

        Raises FastcifarError where no cluster answers, UsageError where it has nothing to work with.
        """
        self._connected = _connect(address)
        self._dataset, self._out, self._cuda, self._options = dataset, out, cuda, (log, way)
        self._place = Place(dataset.path.resolve(), dataset.sha256, out.resolve(), f".shared-{secrets.token_hex(8)}")
        (out / self._place.sign).touch()
        self._events: queue.Queue[tuple[str, Event]] = queue.Queue()
        self._jobs: dict[str, queue.Queue[Job]] = {}
        self._actors: dict[str, Any] = {}
        self._known: set[str] = set()
        self._shipped: Any = None
        self._guard, self._closing = threading.Lock(), threading.Event()
        self._join()
        if not self._jobs:
            self.close()
            what, cure = ("GPU", "--device cpu uses its CPUs") if cuda else ("CPU", "give its nodes some: --num-cpus")
            raise UsageError(f"the Ray cluster {address or ''} has no {what}; {cure}")
        threading.Thread(target=self._look, daemon=True).start()

    def start(self, worker: str, job: Job) -> None:
        """Give a worker that is ready, or done, a job."""
        with suppress(KeyError):  # it has just been lost, which is told next
            self._jobs[worker].put(job)

    def event(self, timeout: float) -> tuple[str, Event] | None:
        """What a worker, named first, tells next; None where there is nothing for ``timeout`` seconds."""
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Have all jobs end at their runs' next epochs."""
        for actor in list(self._actors.values()):
            actor.stop.remote()

    def alive(self) -> int:
        """Workers that are there, or being started."""
        return len(self._jobs)

    def close(self) -> None:
        """End the workers, and the connection if it was made here."""
        self._closing.set()
        actors = list(self._actors.values())
        with suppress(RayError):
            cleaned = [actor.close.remote() for actor in actors]
            ray.wait(cleaned, num_returns=len(cleaned), timeout=PATIENCE) if cleaned else None
        for actor in actors:
            ray.kill(actor)
        (self._out / self._place.sign).unlink(missing_ok=True)
        if self._connected:
            ray.shutdown()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> None:
        while not self._closing.wait(LOOK):
            with suppress(RayError):
                self._join()

    def _join(self) -> None:
        """Begin workers where there are none yet."""
        for name, node, cores in _slots(self._cuda):
            if name not in self._known:
                self._known.add(name)
                self._jobs[name] = queue.Queue()
                threading.Thread(target=self._drive, args=(name, node, cores), daemon=True).start()

    def _drive(self, name: str, node: str, cores: int) -> None:
        """Have one worker after another work in a place, until one cannot even begin or its node is gone."""
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
                    for told in actor.train.remote(job, {} if shared else dict(self._earlier(job))):
                        self._events.put((name, ray.get(told)))
            except Exception as error:  # whatever it is, the job has to be given to another worker
                if self._closing.is_set():
                    return
                reason = f"the worker on {name} was lost ({_first_line(error)})"
            goes_on = was_ready and _is_alive(node)
            if goes_on:
                self._jobs[name] = queue.Queue()
            else:
                del self._jobs[name]
                self._actors.pop(name, None)
                if not was_ready:
                    self._events.put((name, Said(f"{name} cannot be used")))
            self._events.put((name, Lost(reason)))
            if not goes_on:
                return

    def _actor(self, node: str, cores: int) -> Any:
        made = ray.remote(Remote).options(
            num_cpus=1 if self._cuda else cores,
            num_gpus=1 if self._cuda else 0,
            max_concurrency=2,  # stop and close are heard while it trains
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        return made.remote(self._place, "cuda:0" if self._cuda else "cpu", cores, *self._options)

    def _packed(self) -> Any:
        """The dataset in Ray's store, put there once."""
        with self._guard:
            if self._shipped is None:
                self._shipped = ray.put(shipped(self._dataset))
            return self._shipped

    def _earlier(self, job: Job) -> Iterator[tuple[str, Contents]]:
        for spec in job.specs:
            files = RunDirectory.of(spec, self._out).files()
            if files:
                yield spec.run_id, {file.name: file.read_bytes() for file in files}


def _connect(address: str | None) -> bool:
    """Whether the connection was made here, as there was none."""
    if ray.is_initialized():
        return False
    try:
        host, _, port = (address or "").rpartition(":")
        if host and port.isdigit() and "/" not in host:  # Ray itself would wait for minutes
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise FastcifarError(
            f"no Ray cluster answers at {address or 'the usual address'} ({_first_line(error)}); start one with: "
            "ray start --head"
        ) from error
    return True


def _slots(cuda: bool) -> list[tuple[str, str, int]]:
    """Where workers can be, by name, with the node's id and the cores that are theirs."""
    slots = []
    for node in _nodes():
        if not node["Alive"]:
            continue
        cores, gpus = int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0))
        name = f"{node['NodeManagerAddress']}/{node['NodeID'][:6]}"
        if cuda:
            slots += [(f"{name}:{n}", node["NodeID"], max(1, cores // gpus)) for n in range(gpus)]
        elif cores:
            slots.append((name, node["NodeID"], cores))
    return slots


def _is_alive(node: str) -> bool:
    return any(found["Alive"] for found in _nodes() if found["NodeID"] == node)


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()
    return nodes


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
