"""The speed of this machine for the kinds of runs in a plan: a few seconds of real steps each, kept in a user's cache.

`packs.choice` compares the ways to train a pack, which takes half a minute for each shape. Here one way is timed, so
that the plan of a whole grid has its hours within about a minute.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from time import perf_counter
from typing import NamedTuple

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.packs.choice import device_name, light, shape_of
from fastcifar.packs.ways import mode_of
from fastcifar.pipeline import Batch, Pipeline
from fastcifar.runs.spec import RunSpec
from fastcifar.show.progress import track
from fastcifar.show.text import counted
from fastcifar.system import load, machine, probes
from fastcifar.system.load import Load
from fastcifar.system.quiet import busy
from fastcifar.training.batches import open_pipelines
from fastcifar.training.compile import steps_of
from fastcifar.training.learner import Learner, evaluate
from fastcifar.version import __version__

FILE = "speeds"  # of the user's cache
VERSION = 2  # of the file's keys; a new version discards old measurements
LOOK = 0.2  # seconds for which the load by other programs is measured, before and after each kind
TRAINING, EVALUATION = 2.0, 1.0  # seconds of the timed training steps and of the timed evaluation, about
PATIENCE = 45.0  # seconds after which a kind is estimated, if its network was measured already
SLOWEST, FASTEST = 1e-3, 1e9  # images/s that are believed
PACKAGES = ("torch", "torchvision", "numba", "triton")


class Kind(NamedTuple):
    """The settings of a run that its speed depends on."""

    model: str
    side: int
    """Height and width of the images, in pixels."""
    batch_size: int
    precision: str
    pipeline: str
    tune: str
    code: str

    @classmethod
    def of(cls, spec: RunSpec) -> "Kind":
        """Return the kind of a run."""
        side = shape_of(spec).side
        return cls(spec.model, side, spec.batch_size, spec.precision, spec.pipeline, spec.tune, spec.code)


@dataclass(frozen=True)
class Speed:
    """The speed of one run alone on a device."""

    training: float
    """Images/s of training steps."""
    evaluation: float
    """Images/s of evaluation."""
    source: str = "measured"
    """measured; kept: measured by an earlier command; or estimated, from another kind of the same network."""

    @property
    def share(self) -> float:
        """The seconds for evaluating an image, as a share of those for training it."""
        return self.training / self.evaluation


Measure = Callable[[RunSpec, Dataset, torch.device], Speed]


def measure(spec: RunSpec, dataset: Dataset, device: torch.device) -> Speed:
    """Time a run's training steps and its evaluation on real batches. Nothing is written.

    One step comes first, which compiles. Of a published network, batches of few images are timed. Raises RuntimeError
    where a step does not fit in memory.
    """
    spec = light(spec)
    training, validation = open_pipelines(spec, dataset, device)
    with training, validation:
        learner = Learner.new(spec, len(dataset.classes), device)
        steps = steps_of(mode_of(spec, device), learner, training)
        steps.epoch(1, 1)
        before, trained = None, steps.epoch(1, 1)
        while trained.seconds < TRAINING / 2 and len(trained.sizes) != before:  # until no batches are left
            before = len(trained.sizes)
            trained = steps.epoch(1, min(max(2, int(TRAINING * before / trained.seconds)), 10 * before))
        rate = sum(trained.sizes) / trained.seconds
        return Speed(rate, _evaluated(learner, validation))


def _evaluated(learner: Learner, validation: Pipeline) -> float:
    """Return the images/s of evaluation, on more and more batches until the time is long enough or all are used."""
    batches = 1
    while True:
        sizes: list[int] = []

        def counted(sizes: list[int] = sizes, batches: int = batches) -> Iterator[Batch]:
            for batch in islice(validation.epoch(1), batches):
                sizes.append(len(batch.ids))
                yield batch

        started = perf_counter()
        evaluate(learner, counted())
        seconds = perf_counter() - started
        if seconds > EVALUATION / 4 or batches >= len(validation):
            return sum(sizes) / seconds
        batches = min(4 * batches, len(validation))


class Speeds:
    """The speeds of the kinds of runs on a device. They are kept by machine and versions."""

    def __init__(
        self,
        dataset: Dataset,
        device: torch.device,
        measure: Measure = measure,
        others: Callable[[], Load] = partial(load.measure, LOOK),
    ) -> None:
        """others: measures the load by other programs."""
        self._dataset, self._device, self._measure, self._others = dataset, device, measure, others
        self._found: dict[Kind, Speed] = {}
        self.seconds = 0.0
        """The seconds that the measurements have taken."""
        self.busy = 0.0
        """The cores that other programs used before the measurements. On a busy machine no speed is kept."""

    def of(self, specs: Iterable[RunSpec]) -> dict[Kind, Speed]:
        """Return the speed of each kind among the specs.

        The kinds that are not kept are measured, first one of each network. After PATIENCE seconds, a kind whose
        network was measured has the speed of the most similar kind.
        """
        examples: dict[Kind, RunSpec] = {}
        for spec in specs:
            examples.setdefault(Kind.of(spec), spec)
        kept = _read()
        known = {kind: kept[self._key(kind)] for kind in examples if self._key(kind) in kept} | {
            kind: self._found[kind] for kind in examples if kind in self._found
        }
        missing = [kind for kind in examples if kind not in known]
        networks = {(kind.model, kind.side) for kind in known}
        first = [kind for kind in missing if (kind.model, kind.side) not in networks]
        first = list({(kind.model, kind.side): kind for kind in reversed(first)}.values())[::-1]
        order = first + [kind for kind in missing if kind not in first]
        if order:
            self._look()
        began = perf_counter()
        for kind in track(order, "measuring the speed of this machine"):
            similar = [other for other in known if (other.model, other.side) == (kind.model, kind.side)]
            if similar and perf_counter() - began > PATIENCE:
                best = max(similar, key=lambda other: sum(a == b for a, b in zip(other, kind, strict=True)))
                known[kind] = Speed(known[best].training, known[best].evaluation, "estimated")
                continue
            known[kind] = self._measure(examples[kind], self._dataset, self._device)
            self._look()  # other programs may have begun meanwhile
            if not self.busy:
                self._keep(kind, known[kind])
        self.seconds += perf_counter() - began if order else 0.0
        self._found |= known
        return {kind: known[kind] for kind in examples}

    def _look(self) -> None:
        """Note how many cores other programs use, if they take some from this process."""
        used = self._others().busy_cores
        if busy(used, len(machine.allowed_cores()), machine.usable_cores()):
            self.busy = max(self.busy, used or 0.0)

    def sentence(self, speeds: Mapping[Kind, Speed]) -> str:
        """Return a sentence on where these speeds come from."""
        named = {
            "measured": f"measured now, in {self.seconds:.0f} s",
            "kept": "measured by an earlier command",
            "estimated": "estimated from another batch size or precision of the same network",
        }
        counts = {source: sum(speed.source == source for speed in speeds.values()) for source in named}
        parts = ", ".join(f"{count} {named[source]}" for source, count in counts.items() if count)
        warning = (
            f"; other programs use {self.busy:.1f} of {len(machine.allowed_cores())} cores, so the hours are those of "
            "a busy machine: try again when they have ended"
        )
        return (
            f"speeds on this machine, of {counted(len(speeds), 'kind')} of runs: {parts}{warning if self.busy else ''}"
        )

    def _key(self, kind: Kind) -> str:
        versions = {name: machine.version(name) for name in PACKAGES}
        return json.dumps([VERSION, __version__, versions, device_name(self._device), torch.get_num_threads(), *kind])

    def _keep(self, kind: Kind, speed: Speed) -> None:
        rates = {**_read(), self._key(kind): speed}
        probes.store_cache(
            FILE, {key: {"training": each.training, "evaluation": each.evaluation} for key, each in rates.items()}
        )


def _read() -> dict[str, Speed]:
    """Return the kept speeds by key, without damaged entries."""
    speeds = {}
    for key, value in probes.load_cache(FILE).items():
        with suppress(TypeError, KeyError):
            training, evaluation = value["training"], value["evaluation"]
            if all(type(rate) in (int, float) and SLOWEST < rate < FASTEST for rate in (training, evaluation)):
                speeds[key] = Speed(training, evaluation, "kept")
    return speeds
