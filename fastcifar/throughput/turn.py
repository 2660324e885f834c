"""A contestant at work, in its own process: opens its pipeline, takes turns, and looks at what it was given."""

import random
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict
from itertools import count, pairwise
from typing import Any

import torch

from fastcifar.augment import RECIPES
from fastcifar.data.dataset import Dataset
from fastcifar.pipeline import Batch, Pipeline, Request, open_pipeline
from fastcifar.runs.spec import PRECISIONS
from fastcifar.system.devices import device_of
from fastcifar.system.measure import environment, peak_rss_bytes
from fastcifar.throughput import resources
from fastcifar.throughput.contestant import REPLAY, Contestant
from fastcifar.throughput.verify import Verification, check_pixels, check_samples

REPLAYED = 8  # batches kept by the replay: enough that they are not all in the cache


class Racer:
    """``opening``: what opening took and what the pipeline says of itself, ready for JSON. A context manager."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant, self._device = contestant, device_of(contestant.device)
        torch.set_num_threads(contestant.threads)
        self._gpu_before = self._gpu_bytes()
        dataset = Dataset.open(contestant.data)
        request: dict[str, Any] = {
            "augment": RECIPES[contestant.recipe],
            "batch_size": contestant.batch_size,
            "seed": contestant.seed,
            "device": self._device,
            "dtype": PRECISIONS[contestant.dtype],
        }
        started = time.perf_counter()
        name = contestant.pipeline
        self._pipeline = Replay(dataset, request) if name == REPLAY else open_pipeline(name, dataset, **request)
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
            "images": len(self._pipeline.request.ids),
            "environment": environment(),
        }
        self._rested()

    def __enter__(self) -> "Racer":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipeline.close()

    def turn(self, seconds: float, pick: int) -> dict[str, Any]:
        """Take batches for at least ``seconds`` and say how that went. pick: seed of which batch is compared.

        Returns once this process and its workers stand still. Raises what the pipeline raises.
        """
        idle = resources.cpu_seconds() - self._cpu_at_rest, time.perf_counter() - self._at_rest_since
        cpu = resources.cpu_seconds()
        lap = self._lap(seconds, random.Random(pick))
        cpu = resources.cpu_seconds() - cpu
        gpu_bytes = self._gpu_bytes() - self._gpu_before
        self._worker_peak = max(self._worker_peak, resources.worker_bytes())
        self._peak = max(self._peak, peak_rss_bytes())
        lap.batches.close()
        found = self._look(lap)
        resources.forget_rss_peak()  # the reference's memory is not the contestant's
        gaps = [after - before for before, after in pairwise(lap.stamps)]
        images, seconds, waited = lap.images, lap.seconds, lap.waited / lap.seconds
        del lap  # the batch that was kept
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
            "check": asdict(found),
        }

    def _lap(self, seconds: float, dice: random.Random) -> "Lap":
        """Batches of successive epochs, from the start of a new one, until ``seconds`` have passed.

        It ends after a multiple of ``threads`` batches, since workers begin theirs together and deliver them together,
        and after two each.
        """
        lap, threads = Lap(self._pipeline, self._epochs), self._contestant.threads
        self._synchronise()
        lap.stamps.append(time.perf_counter())
        for epoch, batch in lap.batches:
            lap.waited += time.perf_counter() - lap.stamps[-1]
            if self._learner is not None:
                self._learner.step(batch)
            n = len(lap.stamps)
            if dice.random() * n < 1:  # each of the batches is as likely to be the one kept in the end
                lap.kept = epoch, batch
            lap.stamps.append(time.perf_counter())
            if n % threads == 0 and n >= 2 * threads and lap.stamps[-1] - lap.stamps[0] >= seconds:
                break
        self._synchronise()
        lap.seconds = time.perf_counter() - lap.stamps[0]
        return lap

    def _look(self, lap: "Lap") -> Verification:
        """Whether what came was what was asked: ids and labels of all, pixels of the kept batch."""
        if isinstance(self._pipeline, Replay):
            return self._pipeline.check
        found, last = Verification(), max(lap.seen)
        for epoch, batches in lap.seen.items():
            if batches or epoch < last:
                whole = epoch < last or len(batches) == len(self._pipeline)
                found.add(check_samples(batches, self._pipeline.request, whole))
        if lap.kept is not None:
            found.add(check_pixels(lap.kept[1], self._pipeline.request, lap.kept[0]))
        return found

    def _rested(self) -> None:
        resources.come_to_rest()
        self._cpu_at_rest, self._at_rest_since = resources.cpu_seconds(), time.perf_counter()

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _gpu_bytes(self) -> int:
        """Memory of the device in use by anybody, in bytes."""
        if self._device.type != "cuda":
            return 0
        free, total = torch.cuda.mem_get_info(self._device)
        return int(total - free)


class Lap:
    """One timed stretch: what came, and when."""

    def __init__(self, pipeline: Pipeline, epochs: Iterator[int]) -> None:
        self.seen: dict[int, list[Batch]] = {}
        """of each epoch its batches in order, without the images"""
        self.kept: tuple[int, Batch] | None = None
        """one of the batches, whole, with its epoch"""
        self.stamps: list[float] = []
        """the beginning, and when each batch had come and was used"""
        self.waited, self.seconds = 0.0, 0.0
        self.batches = self._successive(pipeline, epochs)

    @property
    def images(self) -> int:
        return sum(len(batch.ids) for batches in self.seen.values() for batch in batches)

    def _successive(self, pipeline: Pipeline, epochs: Iterator[int]) -> Generator[tuple[int, Batch], None, None]:
        nothing = torch.empty(0)
        for epoch in epochs:
            seen = self.seen.setdefault(epoch, [])
            for batch in pipeline.epoch(epoch):
                seen.append(batch._replace(images=nothing))
                yield epoch, batch


class Replay(Pipeline):
    """The first batches of an epoch, made once by ``resident`` and compared once, over and over."""

    def __init__(self, dataset: Dataset, request: dict[str, Any]) -> None:
        super().__init__(Request(dataset, **request))
        with open_pipeline("resident", dataset, **request) as pipeline:
            self._kept = [batch for batch, _ in zip(pipeline.epoch(0), range(REPLAYED), strict=False)]
        self.check = check_pixels(self._kept[0], self.request, 0)
        self.check.add(check_samples(self._kept, self.request, False))

    def epoch(self, k: int) -> Iterator[Batch]:
        for n in range(len(self)):
            yield self._kept[n % len(self._kept)]

    def close(self) -> None:
        self._kept = []
