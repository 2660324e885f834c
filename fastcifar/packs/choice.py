"""Choose the way to train packs of a shape. A measurement of some seconds decides, and its result is kept in a file.

A way that is slower than serial is never chosen.
"""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import DoesNotFit
from fastcifar.experiments import PROTOCOLS
from fastcifar.packs.names import SERIAL, STACKED
from fastcifar.packs.shape import Shape
from fastcifar.packs.training import is_shortage
from fastcifar.packs.trial import Trial, run_bytes, trial_of
from fastcifar.packs.ways import possible
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine
from fastcifar.system.atomic import whole
from fastcifar.system.devices import give_back
from fastcifar.system.locks import fcntl
from fastcifar.system.measure import rotated
from fastcifar.system.schema import Invalid, parse

ROUNDS = 5  # timed rounds of each way; the ways alternate
HOPELESS = 0.6  # share of the fastest way's speed; a way whose best round is slower gets no further round
PAYS = 1.05  # median ratio to serial's speed of the same round that another way must exceed to be chosen
STACKED_ON_CPU = 4  # runs of a trial stack on a CPU; more runs take longer and are no faster
VERSION = 6  # of the calibration file's keys; a new version discards old measurements, as faster kernels do


@dataclass(frozen=True)
class Measured:
    """The measurements of a shape on a device."""

    way: str
    """The fastest way, one of packs.names.WAYS."""
    images_per_s: dict[str, float]
    """Training speed in images/s by way, of all runs of a pack together."""
    run_bytes: int
    """Bytes of a run's weights, gradients, Adam moments and activations."""
    evaluation: float | None = None
    """The seconds for evaluating an image, as a share of those for training it; None if it was not measured."""

    @property
    def rate(self) -> float:
        """The images/s of the chosen way."""
        return self.images_per_s[self.way]

    def why(self) -> str:
        """Return a phrase that names the chosen way and the images/s of all ways."""
        rates = ", ".join(f"{way} {rate:,.0f}" for way, rate in self.images_per_s.items())
        return f"{self.way}, by measurement: {rates} images/s"


class Calibration:
    """A JSON file of measurements by shape and device. It may be deleted; the shapes are then measured again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(
        self,
        spec: RunSpec,
        dataset: Dataset,
        device: torch.device,
        most: int,
        say: Callable[[str], None] = lambda text: None,
    ) -> Measured:
        """Return the measurements for packs of at most ``most`` runs like ``spec``.

        A shape that is not in the file is measured now; ``say`` is then called with a message, and the file is updated.
        """
        kept = self.known(spec, device, most)
        if kept is not None:
            return kept
        shape, key = shape_of(spec), _key(spec, device, most)
        say(f"measuring {shape.model}, batch {shape.batch_size}, {shape.precision} on {device}")
        measured = measure(spec, dataset, device, most)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.parent / f".{self.path.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._read().get(key)  # of two simultaneous measurements, the first is used by both
            if known is not None:
                return Measured(**known)
            with whole(self.path) as file:
                file.write_text(json.dumps(self._read() | {key: asdict(measured)}, indent=1), encoding="utf-8")
        return measured

    def known(self, spec: RunSpec, device: torch.device, most: int) -> Measured | None:
        """Return the measurements that the file has for packs of at most ``most`` runs like ``spec``, or None."""
        known = self._read().get(_key(spec, device, most))
        return None if known is None else Measured(**known)

    def _read(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = parse(self.path.read_bytes(), dict[str, Measured])
        except (OSError, Invalid):  # no file yet, or a damaged one, which the next write replaces
            return {}
        return {key: values for key, values in known.items() if values["way"] in values["images_per_s"]}


def shape_of(spec: RunSpec) -> Shape:
    """Return the shape of a run, with the image side that its recipe makes."""
    return Shape.of(spec, PROTOCOLS[spec.protocol].recipe(spec.recipe).out_size)


def _key(spec: RunSpec, device: torch.device, most: int) -> str:
    shape = shape_of(spec)._asdict()
    about = [VERSION, shape, device_name(device), torch.__version__, most, possible(spec, device)]
    return json.dumps(about, sort_keys=True)


def device_name(device: torch.device) -> str:
    """Return the hardware that a measurement is valid for: the GPU, or the CPU model and number of usable cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{machine.cpu_model()}, {machine.usable_cores()} cores"


def measure(spec: RunSpec, dataset: Dataset, device: torch.device, most: int) -> Measured:
    """Time the possible ways alternately, for some seconds each, and return the measurements.

    Raises RuntimeError or DoesNotFit where not even one run alone fits in memory.
    """
    spec = light(spec)
    rates = _rates(spec, dataset, device, most)
    medians = {way: round(statistics.median(of_way), 1) for way, of_way in rates.items()}
    measured = Measured(fastest_of(rates), medians, run_bytes(spec, dataset, device))
    give_back(device)  # frees the trials' cached memory for the next training, perhaps in another process
    return measured


def light(spec: RunSpec) -> RunSpec:
    """Return the run to time for a run. A pretrained network costs hundreds of times as much, so its batch is small."""
    return replace(spec, batch_size=min(4, spec.batch_size), weights="none") if spec.fine_tuned else spec


def _rates(spec: RunSpec, dataset: Dataset, device: torch.device, most: int) -> dict[str, list[float]]:
    """Return the images/s of each way in each of its rounds. The trials' memory is unreferenced after the return."""
    runs = most if device.type == "cuda" else min(most, STACKED_ON_CPU)
    with ExitStack() as opened:
        trials: dict[str, Trial] = {}
        for way in possible(spec, device) if most > 1 else [SERIAL]:
            trial = _trial_that_fits(way, spec, dataset, device, runs)
            if trial is not None:
                trials[way] = opened.enter_context(trial)
        rates: dict[str, list[float]] = {way: [] for way in trials}
        going = list(trials)
        for round_ in range(ROUNDS):
            for way in rotated(going, round_):
                rates[way].append(trials[way].rate())
            fastest = max(rate for of_way in rates.values() for rate in of_way)
            going = [way for way in going if way == SERIAL or max(rates[way]) > HOPELESS * fastest]
    return rates


def _trial_that_fits(way: str, spec: RunSpec, dataset: Dataset, device: torch.device, runs: int) -> Trial | None:
    """Return a trial of ``runs`` runs, halved until they fit in memory, as for a pack; None if one does not fit."""
    while True:
        try:
            return trial_of(way, spec, dataset, device, runs)
        except (RuntimeError, DoesNotFit) as error:
            if way == SERIAL or not is_shortage(error):
                raise
        give_back(device)
        if runs == 1 or way not in STACKED:
            return None
        runs = -(-runs // 2)


def fastest_of(rates: Mapping[str, Sequence[float]]) -> str:
    """Return the way to choose: serial, unless another way's gain exceeds PAYS. rates: images/s of each round by way.

    Speeds are compared within a round, since a shared machine may have another speed a minute later.
    """
    gains = {
        way: statistics.median(rate / serial for rate, serial in zip(of_way, rates[SERIAL], strict=False))
        for way, of_way in rates.items()
    }  # strict=False: a hopeless way has fewer rounds
    best = max(gains, key=lambda way: gains[way])
    return best if gains[best] > PAYS else SERIAL
