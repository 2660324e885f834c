"""A contestant's work in its own process: open the pipeline, take timed turns and verify the batches."""

import random
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict
from itertools import count, pairwise
from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.pipeline import Batch, Pipeline, Request, open_pipeline
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.recipes import recipe
from fastcifar.system.devices import device_of
from fastcifar.system.measure import environment, peak_rss_bytes
from fastcifar.throughput import resources
from fastcifar.throughput.contestant import REPLAY, Contestant
from fastcifar.throughput.own import OwnLoader, kept
from fastcifar.throughput.verify import Verification, check_pixels, check_samples

REPLAYED = 8  # batches that the replay keeps, enough that the CPU's cache does not hold them all


class Racer:
    """A contestant with an open pipeline. A context manager that closes the pipeline.

    ``opening``: build time in seconds, `Pipeline.differs`, `Pipeline.hindered`, the dataset's name, number of images,
    and environment, ready for JSON.
    """

    def __init__(self, contestant: Contestant) -> None:
        self._contestant, self._device = contestant, device_of(contestant.device)
        torch.set_num_threads(contestant.threads)
        self._gpu_before = self._gpu_bytes()
        dataset = Dataset.open(contestant.data)
        request: dict[str, Any] = {
            "augment": recipe(contestant.recipe),
            "batch_size": contestant.batch_size,
            "seed": contestant.seed,
            "device": self._device,
            "dtype": dtype_of(contestant.dtype),
        }
        started = time.perf_counter()
        self._pipeline = _opened(contestant, dataset, request)
        self._synchronise()
        build_seconds = time.perf_counter() - started
        self._learner = None
        if contestant.model is not None:
            from fastcifar.throughput.networks import trainee

            self._learner = trainee(contestant, dataset)
        self._epochs, self._peak, self._worker_peak = count(), peak_rss_bytes(), 0
        self.opening = {
            "build_seconds": build_seconds,
            "differs": self._pipeline.differs,
            "hindered": self._pipeline.hindered,
            "dataset": dataset.name,
            "images": None if contestant.own else len(self._pipeline.request.ids),
            "environment": environment(),
        }
        self._rested()

    def __enter__(self) -> "Racer":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipeline.close()

    def turn(self, seconds: float, pick: int) -> dict[str, Any]:
        """Take batches for at least ``seconds`` and return the measurements.

        pick: seed that chooses the batch to compare. The turn ends once this process and its workers use no CPU. Raises
        what the pipeline raises, and FastcifarError where the workers do not come to rest.
        """
        idle = resources.cpu_seconds() - self._cpu_at_rest, time.perf_counter() - self._at_rest_since
        cpu = resources.cpu_seconds()
        lap = self._lap(seconds, random.Random(pick))
        cpu = resources.cpu_seconds() - cpu
        gpu_bytes = self._gpu_bytes() - self._gpu_before
        self._worker_peak = max(self._worker_peak, resources.worker_bytes())
        self._peak = max(self._peak, peak_rss_bytes())
        lap.batches.close()
        check = self._verified(lap)
        resources.forget_rss_peak()  # so that the reference's memory does not count as the contestant's
        gaps = [after - before for before, after in pairwise(lap.stamps)]
        images, seconds, waited = lap.images, lap.seconds, lap.waited / lap.seconds
        del lap  # frees the kept batch
        self._rested()
        return {
            "images": images,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "start_seconds": gaps[0],
            "gaps": gaps[1:],
            "waited": waited,
            "idle_cpu_seconds": idle[0],
            "idle_seconds": idle[1],
            "peak_host_bytes": self._peak + self._worker_peak,
            "peak_gpu_bytes": gpu_bytes if self._device.type == "cuda" else None,
            "check": asdict(check),
        }

    def _lap(self, seconds: float, generator: random.Random) -> "Lap":
        """Take batches of successive epochs, from the start of a new one, until ``seconds`` have passed.

        The lap ends after a multiple of ``threads`` batches, as workers start and deliver batches together, and after
        two batches for each thread at the earliest.
        """
        lap, threads = Lap(self._pipeline, self._epochs), self._contestant.threads
        self._synchronise()
        lap.stamps.append(time.perf_counter())
        for epoch, batch in lap.batches:
            lap.waited += time.perf_counter() - lap.stamps[-1]
            if self._learner is not None:
                self._learner.step(batch)
            n = len(lap.stamps)
            if generator.random() * n < 1:  # reservoir sampling: every batch is equally likely to be kept
                lap.kept = epoch, kept(batch) if self._contestant.own else batch
            lap.stamps.append(time.perf_counter())
            if n % threads == 0 and n >= 2 * threads and lap.stamps[-1] - lap.stamps[0] >= seconds:
                break
        self._synchronise()
        lap.seconds = time.perf_counter() - lap.stamps[0]
        return lap

    def _verified(self, lap: "Lap") -> Verification:
        """Verify the batches of a lap: the ids and labels of all batches, and the pixels of the kept batch."""
        if isinstance(self._pipeline, Replay):
            return self._pipeline.check
        if isinstance(self._pipeline, OwnLoader):
            assert lap.kept is not None
            return self._pipeline.verified(lap.seen, lap.kept[1])
        check, last = Verification(), max(lap.seen)
        for epoch, batches in lap.seen.items():
            if batches or epoch < last:
                whole = epoch < last or len(batches) == len(self._pipeline)
                check.add(check_samples(batches, self._pipeline.request, whole))
        if lap.kept is not None:
            check.add(check_pixels(lap.kept[1], self._pipeline.request, lap.kept[0]))
        return check

    def _rested(self) -> None:
        resources.come_to_rest()
        self._cpu_at_rest, self._at_rest_since = resources.cpu_seconds(), time.perf_counter()

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _gpu_bytes(self) -> int:
        """Return the device memory that all processes use together, in bytes; 0 on a CPU."""
        if self._device.type != "cuda":
            return 0
        free, total = torch.cuda.mem_get_info(self._device)
        return int(total - free)


def _opened(contestant: Contestant, dataset: Dataset, request: dict[str, Any]) -> Pipeline:
    if contestant.own:
        return OwnLoader(contestant.pipeline, dataset, request)
    if contestant.pipeline == REPLAY:
        return Replay(dataset, request)
    return open_pipeline(contestant.pipeline, dataset, **request)


class Lap:
    """One timed lap: its batches and their times."""

    def __init__(self, pipeline: Pipeline, epochs: Iterator[int]) -> None:
        self.seen: dict[int, list[Batch]] = {}
        """The batches of each epoch, in order, without their images."""
        self.kept: tuple[int, Batch] | None = None
        """The epoch of one batch, and that batch with its images."""
        self.stamps: list[float] = []
        """Times by perf_counter, in seconds: the start of the lap, then the end of each batch's use."""
        self.waited, self.seconds = 0.0, 0.0
        self.batches = self._successive(pipeline, epochs)

    @property
    def images(self) -> int:
        return sum(len(batch.labels) for batches in self.seen.values() for batch in batches)

    def _successive(self, pipeline: Pipeline, epochs: Iterator[int]) -> Generator[tuple[int, Batch], None, None]:
        nothing = torch.empty(0)
        for epoch in epochs:
            seen = self.seen.setdefault(epoch, [])
            for batch in pipeline.epoch(epoch):
                seen.append(batch._replace(images=nothing))
                yield epoch, batch


class Replay(Pipeline):
    """A pipeline that repeats the first batches of an epoch, which ``resident`` made and which were verified once."""

    def __init__(self, dataset: Dataset, request: dict[str, Any]) -> None:
        super().__init__(Request(dataset, **request))
        with open_pipeline("resident", dataset, **request) as pipeline:
            self._kept = [batch for batch, _ in zip(pipeline.epoch(0), range(REPLAYED), strict=False)]
        self.check = check_pixels(self._kept[0], self.request, 0)
        self.check.add(check_samples(self._kept, self.request, False))

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        for n in range(start, len(self)):
            yield self._kept[n % len(self._kept)]

    def close(self) -> None:
        self._kept = []
