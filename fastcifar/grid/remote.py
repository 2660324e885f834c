"""A worker on another node. It uses the dataset and the output folder at their paths, or gets and sends their files."""

import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.data.manifest import MANIFEST, manifest_bytes
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.grid.messages import Done, Ended, Epoch, Event, Job, SentFiles
from fastcifar.grid.worker import Worker
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine
from fastcifar.system.scratch import Scratch
from fastcifar.version import __version__

Contents = Mapping[str, bytes]


@dataclass(frozen=True)
class Place:
    """The dataset and the output folder of a grid, as absolute paths on the driver's machine."""

    dataset: Path
    sha256: str
    out: Path
    sign: str
    """The name of a file in ``out`` that only this grid makes. A node where it exists shares the folder."""
    version: str = __version__
    """The version of fastcifar on the driver's machine."""


class Remote:
    """An actor that trains on one GPU or on some CPU cores of its node.

    Call `lacks`, then `receive` if the dataset is missing, then `begin`; then `train` may be called.
    """

    def __init__(self, place: Place, device: str, cores: int, log: str, way: str) -> None:
        """cores: the number of CPU cores to use. log, way: as `worker.Worker` takes them.

        Raises UsageError where the driver's machine has another version of fastcifar.
        """
        if place.version != __version__:
            raise UsageError(
                f"fastcifar {__version__} is installed there and {place.version} here; install the same version there"
            )
        machine.keep_to_cores(cores)
        torch.set_num_threads(machine.usable_cores())
        self._place, self._device, self._log, self._way = place, device, log, way
        self._own = Scratch()
        self._shared = (place.out / place.sign).exists()
        self._out = place.out if self._shared else Path(self._own.name) / "runs"
        self._dataset = _opened(place)
        self._sent: dict[Path, tuple[int, int]] = {}
        """The modification time in ns and the size in bytes that each file had when it was last sent."""

    def lacks(self) -> bool:
        """Return whether the dataset is not at its path on this node, so that it has to be sent."""
        return self._dataset is None

    def receive(self, contents: Contents) -> None:
        """Write the files that `shipped` returned to a temporary folder, and open the dataset there."""
        folder = Path(self._own.name) / "dataset"
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        self._dataset = Dataset.open(folder)

    def begin(self) -> bool:
        """Prepare for jobs. Return whether this node shares the output folder with the driver."""
        assert self._dataset is not None
        self._worker = Worker(self._dataset, self._out, self._device, self._log, self._way)
        return self._shared

    def train(self, job: Job, earlier: Mapping[str, Contents]) -> Iterator[Event]:
        """Train a job and yield its events. earlier: the files of runs that were begun, by run-id; empty if shared."""
        specs = {spec.run_id: spec for spec in job.specs}
        for run_id, contents in earlier.items():
            RunDirectory.of(specs[run_id], self._out).receive(contents)
        events: queue.Queue[Event] = queue.Queue()

        def tell(event: Event) -> None:
            # files come first, so that they are on the driver's disk before it handles the event
            if not self._shared and isinstance(event, Epoch | Ended):
                events.put(self._changed(specs[event.run_id]))
            events.put(event)

        threading.Thread(target=self._worker.train, args=(job, tell), daemon=True).start()
        event: Event | None = None
        while not isinstance(event, Done):
            event = events.get()
            yield event

    def stop(self) -> None:
        """End the present job at the end of its current epoch."""
        self._worker.stop.set()

    def close(self) -> None:
        """Remove this worker's temporary files."""
        self._own.cleanup()

    def _changed(self, spec: RunSpec) -> SentFiles:
        """Return the files of a run that changed since they were last sent."""
        directory, contents = RunDirectory.of(spec, self._out), {}
        for file in directory.files():
            status = file.stat()
            state = (status.st_mtime_ns, status.st_size)
            if self._sent.get(file) != state:
                self._sent[file] = state
                contents[file.name] = file.read_bytes()
        return SentFiles(spec.run_id, spec.experiment, contents)


def _opened(place: Place) -> Dataset | None:
    try:
        dataset = Dataset.open(place.dataset)
    except (UsageError, FastcifarError):
        return None
    return dataset if dataset.sha256 == place.sha256 else None


def shipped(dataset: Dataset) -> dict[str, bytes]:
    """Return the files of a dataset by name, for `Remote.receive`: its arrays (.npy) and a manifest of them."""
    files = {name: entry for name, entry in dataset.manifest["files"].items() if name.endswith(".npy")}
    contents = {name: (dataset.path / name).read_bytes() for name in files}
    return contents | {MANIFEST: manifest_bytes(dataset.manifest | {"files": files})}
