"""Which way to train packs of a shape, by a measurement of seconds that is kept; none that is slower than serial."""

import fcntl
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
from fastcifar.models import MODELS
from fastcifar.packs.shape import Shape
from fastcifar.packs.training import is_shortage
from fastcifar.packs.trial import Trial, run_bytes, trial_of
from fastcifar.packs.ways import SERIAL, STACKED, possible
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine
from fastcifar.system.atomic import whole
from fastcifar.system.devices import give_back
from fastcifar.system.measure import rotated

ROUNDS = 5  # of each way, alternated
HOPELESS = 0.6  # of the fastest's speed: a way that is slower in its first round gets no other
PAYS = 1.05  # times serial's speed in the same round: what another way must reach in the median to be chosen
STACKED_ON_CPU = 4  # runs of a stack in a trial there: more take longer and are no faster
VERSION = 4


@dataclass(frozen=True)
class Measured:
    """What was measured of a shape on a device."""

    way: str
    """the fastest"""
    images_per_s: dict[str, float]
    """of training, all runs of a pack together, by way"""
    run_bytes: int
    """of a run's weights, gradients, moments and activations"""

    @property
    def rate(self) -> float:
        """images/s of the chosen way."""
        return self.images_per_s[self.way]

    def why(self) -> str:
        """The choice, for people."""
        rates = ", ".join(f"{way} {rate:,.0f}" for way, rate in self.images_per_s.items())
        return f"{self.way}, by measurement: {rates} images/s"


class Calibration:
    """Measured, by shape and device, kept in a file that may be deleted at any time: then it is measured again."""

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
        """For packs of at most ``most`` runs like ``spec``; measured now where it is not known yet, which is said."""
        shape = shape_of(spec)
        key = json.dumps([VERSION, shape._asdict(), device_name(device), torch.__version__, most], sort_keys=True)
        known = self._read().get(key)
        if known is not None:
            return Measured(**known)
        say(f"measuring {shape.model}, batch {shape.batch_size}, {shape.precision} on {device}")
        measured = measure(spec, dataset, device, most)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.parent / f".{self.path.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = self._read().get(key)  # the first of two that measure at a time decides for both
            if known is not None:
                return Measured(**known)
            with whole(self.path) as file:
                file.write_text(json.dumps(self._read() | {key: asdict(measured)}, indent=1), encoding="utf-8")
        return measured

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not measured yet, or damaged: it is made anew
            return {}
        return known if isinstance(known, dict) else {}


def shape_of(spec: RunSpec) -> Shape:
    """The shape of a run."""
    return Shape.of(spec, PROTOCOLS[spec.protocol].recipe(spec.recipe).out_size)


def device_name(device: torch.device) -> str:
    """What a measurement on a device holds for."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{machine.cpu_model()}, {machine.usable_cores()} cores"


def measure(spec: RunSpec, dataset: Dataset, device: torch.device, most: int) -> Measured:
    """Try the ways that are possible, for seconds each, in turns."""
    if spec.model not in MODELS:  # as expensive as hundreds of the others: a few images must do
        spec = replace(spec, batch_size=min(4, spec.batch_size), weights="none")
    rates = _rates(spec, dataset, device, most)
    medians = {way: round(statistics.median(found), 1) for way, found in rates.items()}
    measured = Measured(fastest_of(rates), medians, run_bytes(spec, dataset, device))
    give_back(device)  # to whoever trains there next, perhaps another process: nothing refers to the trials any more
    return measured


def _rates(spec: RunSpec, dataset: Dataset, device: torch.device, most: int) -> dict[str, list[float]]:
    """images/s of each way in each of its rounds; what the trials hold is free once this returns."""
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
            fastest = max(rate for found in rates.values() for rate in found)
            going = [way for way in going if way == SERIAL or max(rates[way]) > HOPELESS * fastest]
    return rates


def _trial_that_fits(way: str, spec: RunSpec, dataset: Dataset, device: torch.device, runs: int) -> Trial | None:
    """A trial of as many runs as fit into memory, by halves, as a pack is trained; None where not even one does."""
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
    """The way to choose, from the images/s of each round: serial, unless another one pays.

    They are compared within rounds, since a machine that others use too has another speed a minute later.
    """
    gains = {
        way: statistics.median(rate / serial for rate, serial in zip(found, rates[SERIAL], strict=False))
        for way, found in rates.items()
    }  # a way that was given up has fewer rounds
    best = max(gains, key=lambda way: gains[way])
    return best if gains[best] > PAYS else SERIAL
