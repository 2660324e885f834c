"""What --compile means: which way a run's steps are run (`steps_of`), and the choice between them by measurement."""

from typing import NamedTuple

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import Pipeline
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.system.devices import give_back, processes
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import Learner
from fastcifar.training.options import Options
from fastcifar.training.steps import Captured, Eager

MODES = ("graph", "inductor", "none")
"""graph: the step as one CUDA graph; inductor: the network through torch.compile, and in a CUDA graph where one is
possible; none: as torch runs it"""
TRIAL_STEPS, TRIAL_SECONDS = 30, 3.0  # at most
INDUCTOR_PAYS = 600.0  # seconds of training, in the better of the other ways, from which compiling is tried


def steps_of(mode: str, learner: Learner, training: Pipeline) -> Eager | Captured:
    """What runs a learner's epochs in a mode of MODES. Raises UsageError where that is not possible."""
    if mode not in MODES:
        raise UsageError(f"--compile {mode!r} is not one of auto, {', '.join(MODES)}")
    alone = training.request.shard == (0, 1)
    renderer = training.renderer() if learner.device.type == "cuda" and alone else None
    if mode == "graph" and renderer is None:
        raise UsageError(
            "--compile graph needs one CUDA device and the pipeline resident, which renders its batches there; this "
            f"run is on {learner.device} with pipeline {learner.spec.pipeline!r}"
            f"{'' if alone else ', and other processes train with it'}; choose --compile none"
        )
    if mode == "inductor":
        learner.network = torch.compile(learner.model if learner.network is None else learner.network)
    return Eager(learner, training) if renderer is None or mode == "none" else Captured(learner, renderer)


class Choice(NamedTuple):
    """A mode, and why it was chosen, for people; nothing where there was no choice."""

    mode: str
    why: str


def choose(spec: RunSpec, dataset: Dataset, device: torch.device) -> Choice:
    """The fastest mode for a run, by a trial of each on a learner of its own: graph where it is possible, inductor
    where the run is long. Where other processes train with this one, none.
    """
    if processes() > 1:
        return Choice("none", "")
    training, validation = open_pipelines(spec, dataset, device)
    failed = ""
    with training, validation:
        seconds = {"none": _seconds("none", spec, training, len(dataset.classes))}

        def attempt(mode: str) -> str:
            try:
                seconds[mode] = _seconds(mode, spec, training, len(dataset.classes))
                return ""
            except (RuntimeError, FastcifarError) as error:  # memory is short, or, say, there is no C++ compiler
                reason = f"; {mode} fails: {str(error).strip().splitlines()[0]}"
            give_back(device)  # here, where nothing refers to the error's frames any more, nor to what these hold
            return reason

        if device.type == "cuda" and training.renderer() is not None:
            failed += attempt("graph")
        if min(seconds.values()) * len(training) * spec.epochs > INDUCTOR_PAYS:
            failed += attempt("inductor")
    best = min(seconds, key=lambda mode: seconds[mode])
    if len(seconds) == 1 and not failed:
        return Choice(best, "")
    return Choice(best, ", ".join(f"{mode} {1e6 * value:,.0f} µs a step" for mode, value in seconds.items()) + failed)


def _seconds(mode: str, spec: RunSpec, training: Pipeline, classes: int) -> float:
    """Of a step, in TRIAL_SECONDS of them at most, but two at least; after two that compile what is to be compiled."""
    learner = Learner.new(spec, classes, training.request.device)
    steps = steps_of(mode, learner, training)
    steps.epoch(1, 2)
    trained = steps.epoch(1, 2)
    enough = int(TRIAL_SECONDS * len(trained.sizes) / trained.seconds)
    trained = steps.epoch(1, max(2, min(TRIAL_STEPS, enough)))
    return trained.seconds / len(trained.sizes)


class Modes:
    """The mode of each run of a session; auto is decided once for each configuration."""

    def __init__(self, dataset: Dataset, device: torch.device, options: Options) -> None:
        self._dataset, self._device, self._options = dataset, device, options
        self._chosen: dict[str, str] = {}

    def of(self, spec: RunSpec, directory: RunDirectory) -> str:
        """Return the options' mode. Where it is auto, return the mode that the run was begun in, as its metrics have
        that mode's rounding; for a new run, the fastest mode for its configuration, which is said.
        """
        if self._options.mode != "auto" or directory.summary() is not None:
            return self._options.mode
        begun = directory.begun().get("mode")
        if begun:
            return str(begun)
        if spec.label not in self._chosen:
            choice = choose(spec, self._dataset, self._device)
            if choice.why:
                self._options.say(f"{spec.label}: --compile {choice.mode} ({choice.why})")
            self._chosen[spec.label] = choice.mode
        return self._chosen[spec.label]
