"""A worker out of this process's sight: it finds the dataset and the output folder at their paths, or is sent them."""

import json
import queue
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fastcifar.data.dataset import MANIFEST, Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.grid.messages import Done, Ended, Epoch, Event, Files, Job
from fastcifar.grid.worker import Worker
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine

Contents = Mapping[str, bytes]


@dataclass(frozen=True)
class Place:
    """Where a grid reads and writes, as its driver sees it; paths are absolute."""

    dataset: Path
    sha256: str
    out: Path
    sign: str
    """a file in ``out`` that nobody else has made: where it is seen, the folder is shared"""


class Remote:
    """One for each GPU, or share of the CPUs; made where it works. `lacks`, `receive` and `begin` come first."""

    def __init__(self, place: Place, device: str, cores: int, log: str, way: str) -> None:
        """cores: of the machine's, those to keep to. log, way: as `worker.Worker` takes them."""
        machine.keep_to_cores(cores)
        torch.set_num_threads(machine.usable_cores())
        self._place, self._device, self._log, self._way = place, device, log, way
        self._own = tempfile.TemporaryDirectory(prefix="fastcifar-")
        self._shared = (place.out / place.sign).exists()
        self._out = place.out if self._shared else Path(self._own.name) / "runs"
        self._dataset = _opened(place)
        self._sent: dict[Path, tuple[int, int]] = {}
        """what each file was when it was sent: its time and size"""

    def lacks(self) -> bool:
        """Whether the dataset has to be sent, as it is not at its path."""
        return self._dataset is None

    def receive(self, contents: Contents) -> None:
        """Take the dataset, as `shipped` packs it."""
        folder = Path(self._own.name) / "dataset"
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        self._dataset = Dataset.open(folder)

    def begin(self) -> bool:
        """Get ready for jobs; returns whether the output folder is shared."""
        assert self._dataset is not None
        self._worker = Worker(self._dataset, self._out, self._device, self._log, self._way)
        return self._shared

    def train(self, job: Job, earlier: Mapping[str, Contents]) -> Iterator[Event]:
        """Train a job, telling what happens. earlier: of runs that were begun, their files, unless those are seen."""
        specs = {spec.run_id: spec for spec in job.specs}
        for run_id, contents in earlier.items():
            RunDirectory.of(specs[run_id], self._out).receive(contents)
        told: queue.Queue[Event] = queue.Queue()

        def tell(event: Event) -> None:
            # what an event speaks of is on the driver's disk before the driver hears of it
            if not self._shared and isinstance(event, Epoch | Ended):
                told.put(self._changed(specs[event.run_id]))
            told.put(event)

        threading.Thread(target=self._worker.train, args=(job, tell), daemon=True).start()
        event: Event | None = None
        while not isinstance(event, Done):
            event = told.get()
            yield event

    def stop(self) -> None:
        """Have the job in work end at its runs' next epochs."""
        self._worker.stop.set()

    def close(self) -> None:
        """Remove what this has written for itself."""
        self._own.cleanup()

    def _changed(self, spec: RunSpec) -> Files:
        """The files of a run that are not as they were sent last."""
        directory, contents = RunDirectory.of(spec, self._out), {}
        for file in directory.files():
            status = file.stat()
            state = (status.st_mtime_ns, status.st_size)
            if self._sent.get(file) != state:
                self._sent[file] = state
                contents[file.name] = file.read_bytes()
        return Files(spec.run_id, spec.experiment, contents)


def _opened(place: Place) -> Dataset | None:
    try:
        dataset = Dataset.open(place.dataset)
    except (UsageError, FastcifarError):
        return None
    return dataset if dataset.sha256 == place.sha256 else None


def shipped(dataset: Dataset) -> dict[str, bytes]:
    """A dataset's arrays as files, without its other formats, for `Remote.receive`."""
    files = {name: entry for name, entry in dataset.manifest["files"].items() if name.endswith(".npy")}
    contents = {name: (dataset.path / name).read_bytes() for name in files}
    return contents | {MANIFEST: json.dumps(dataset.manifest | {"files": files}).encode()}
