"""A worker trains one pack after another on its device and reports events."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError
from fastcifar.grid.messages import Began, Done, Ended, Epoch, Event, Job, Said, Within
from fastcifar.packs.choice import Calibration
from fastcifar.packs.options import Callbacks, Outcome, PackOptions, Stopped
from fastcifar.packs.ways import train_pack
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.logs import Watcher, log_of
from fastcifar.runs.plan import weights_for
from fastcifar.runs.spec import RunSpec
from fastcifar.system import foreign
from fastcifar.system.devices import device_of, use

CALIBRATION = "calibration.json"  # the file of measurements in the output folder


class Worker:
    """A worker for one device and one output folder."""

    def __init__(self, dataset: Dataset, out: Path, device: str, log: str = "none", way: str = "auto") -> None:
        """log: as --log. way: one of packs.names.WAYS, or auto: the fastest by measurement."""
        self._dataset, self._out, self._device = dataset, out, device_of(device)
        self._log, self._way = log_of(log), way
        self._calibration = Calibration(out / CALIBRATION)
        self.stop = threading.Event()
        """If set, the present job stops at the end of its epoch, and no further run is begun."""

    def train(self, job: Job, tell: Callable[[Event], None]) -> None:
        """Train a job's runs, or resume them. tell: called with each event; the last event is always Done."""
        watchers: dict[RunSpec, Watcher] = {}
        going = set(job.specs)

        def ended(spec: RunSpec, outcome: Outcome) -> None:
            going.discard(spec)
            if isinstance(outcome, Exception):
                reason = str(outcome) if isinstance(outcome, FastcifarError) else foreign.said(outcome)
                tell(Ended(job.number, spec.run_id, None, reason))
            else:
                tell(Ended(job.number, spec.run_id, outcome, None))
            if self.stop.is_set():
                raise Stopped

        try:
            self._train(job, tell, ended, watchers)
        except Stopped:
            pass
        except Exception as error:
            with suppress(Stopped):
                for spec in list(going):
                    ended(spec, error)
        finally:
            for watcher in watchers.values():
                watcher.close()
        tell(Done(job.number))

    def _train(
        self,
        job: Job,
        tell: Callable[[Event], None],
        ended: Callable[[RunSpec, Outcome], None],
        watchers: dict[RunSpec, Watcher],
    ) -> None:
        first, device = job.specs[0], use(self._device)  # set here, since the current CUDA device belongs to a thread

        def say(text: str) -> None:
            tell(Said(text))

        way = self._way
        if way == "auto":
            way = self._calibration.of(first, self._dataset, device, job.most, say).way
        tensors = weights_for(first.experiment, first.model, job.weights).tensors if first.fine_tuned else {}
        earlier: dict[RunSpec, int] = {}
        for spec in job.specs:
            directory = RunDirectory.of(spec, self._out)
            try:
                watchers[spec], earlier[spec] = self._log(spec, directory), len(directory.metrics())
            except (FastcifarError, OSError) as error:  # a damaged run must not stop the other runs of its pack
                ended(spec, error)

        def watch(spec: RunSpec, line: Mapping[str, Any]) -> None:
            watchers[spec](line)
            tell(Epoch(job.number, spec.run_id, dict(line), line["epoch"] > earlier[spec]))
            if self.stop.is_set():
                raise Stopped

        if not earlier:
            return
        tell(Began(job.number, way, first.run_id))
        options = PackOptions("none", tensors, say, lambda steps: tell(Within(job.number, steps.text)), way)
        train_pack(list(earlier), self._dataset, self._out, device, options, Callbacks(watch, ended))
