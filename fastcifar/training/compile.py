"""The modes of --compile: the ways to run a run's steps (`steps_of`), and the choice of a mode by measurement."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.pipeline import Pipeline
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.show.text import duration
from fastcifar.system.devices import give_back
from fastcifar.system.launch import processes
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import Learner
from fastcifar.training.modes import MODES, check_mode
from fastcifar.training.options import Options, silent
from fastcifar.training.steps import Captured, Eager
from fastcifar.training.trial import TooSlow, within

TRIAL_STEPS, TRIAL_SECONDS, PARTS = 30, 3.0, 3  # the limits of a trial, and its groups of steps
INDUCTOR_PAYS = 600.0  # least seconds of training, in the fastest other mode, from which on inductor is tried on CUDA
COST, COMPILING = 0.1, 180.0
"""On a CPU, a trial of inductor may take COST of the run's time, and is made only where that is COMPILING seconds or
more: on two busy cores, torch.compile took three minutes and a half for the CNN."""


def steps_of(mode: str, learner: Learner, training: Pipeline) -> Eager | Captured:
    """Return the object that runs a learner's epochs in a mode of MODES.

    Raises UsageError for an unknown mode, or where graph is not possible.
    """
    check_mode(mode, MODES)
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
    """A mode that was chosen by measurement."""

    mode: str
    why: str
    """The reason, as text for people; empty where only one mode was possible."""


def choose_mode(spec: RunSpec, dataset: Dataset, device: torch.device, say: Callable[[str], None] = silent) -> Choice:
    """Return the fastest mode for a run, by a trial of each mode with a separate learner.

    graph is tried where it is possible, inductor where the run is long. With several processes the mode is none. say: a
    callback for messages to people.
    """
    if processes() > 1:
        return Choice("none", "")
    training, validation = open_pipelines(spec, dataset, device)
    with training, validation:
        seconds, failed = {"none": _seconds("none", spec, training, len(dataset.classes))}, ""
        steps = len(training) * min(spec.epochs, PROTOCOLS[spec.protocol].min_epochs)
        if device.type == "cuda":
            failed = _on_cuda(seconds, spec, dataset, training, device, steps, say)
    if device.type != "cuda" and COST * seconds["none"] * steps >= COMPILING:
        failed = _on_cpu(seconds, spec, dataset, steps, say)
    best = min(seconds, key=lambda mode: seconds[mode])
    if len(seconds) == 1 and not failed:
        return Choice(best, "")
    return Choice(best, ", ".join(f"{mode} {1e6 * value:,.0f} µs a step" for mode, value in seconds.items()) + failed)


def _on_cuda(
    seconds: dict[str, float],
    spec: RunSpec,
    dataset: Dataset,
    training: Pipeline,
    device: torch.device,
    steps: int,
    say: Callable[[str], None],
) -> str:
    """Try graph, and inductor for a long run. Add the seconds of a step by mode, and return what failed, for people.

    steps: the fewest steps of the run.
    """

    def attempt(mode: str) -> str:
        say(f"{spec.label}: trying --compile {mode}")
        try:
            seconds[mode] = _seconds(mode, spec, training, len(dataset.classes))
            return ""
        except (RuntimeError, FastcifarError) as error:  # for example: not enough memory, or no C++ compiler
            reason = f"; {mode} fails: {str(error).strip().splitlines()[0]}"
        give_back(device)  # after the except block, where the memory of its frames is released
        return reason

    failed = attempt("graph") if training.renderer() is not None else ""
    return failed + (attempt("inductor") if min(seconds.values()) * steps > INDUCTOR_PAYS else "")


def _on_cpu(seconds: dict[str, float], spec: RunSpec, dataset: Dataset, steps: int, say: Callable[[str], None]) -> str:
    """Try inductor in a process of its own, for at most COST of the run's time. Add the seconds of a step if the run
    saves more than compiling takes, and return what failed, for people. steps: the fewest steps of the run.
    """
    limit, trying = COST * seconds["none"] * steps, f"{spec.label}: trying --compile inductor"
    say(f"{trying}, for at most {duration(limit)}")
    try:
        compiled, spent = within(
            limit, lambda so_far: say(f"{trying}, {duration(so_far)} so far"), _trial, spec, dataset
        )
    except TooSlow:
        return f"; the trial of inductor had not ended after {duration(limit)}"
    except RuntimeError as error:
        return f"; inductor fails: {error}"
    if (seconds["none"] - compiled) * steps > spent:  # the run compiles again, which takes no longer
        seconds["inductor"] = compiled
        return ""
    return f"; inductor {1e6 * compiled:,.0f} µs a step, which saves less than compiling takes"


def _trial(spec: RunSpec, dataset: Dataset) -> float:
    """Return the seconds of a compiled step on the CPU."""
    training, validation = open_pipelines(spec, dataset, torch.device("cpu"))
    with training, validation:
        return _seconds("inductor", spec, training, len(dataset.classes))


def _seconds(mode: str, spec: RunSpec, training: Pipeline, classes: int) -> float:
    """Return the measured seconds of a step.

    Two steps come first, which compile, and two more, which give a first estimate. Then PARTS groups of at least two
    steps are timed, for at most TRIAL_SECONDS and TRIAL_STEPS in all. The fastest group counts, because another program
    may have slowed the others down.
    """
    learner = Learner.new(spec, classes, training.request.device)
    steps = steps_of(mode, learner, training)
    steps.epoch(1, 2)
    trained = steps.epoch(1, 2)
    enough = int(TRIAL_SECONDS * len(trained.sizes) / trained.seconds)
    group = max(2, min(TRIAL_STEPS, enough) // PARTS)
    timed = [steps.epoch(1, group) for _ in range(PARTS)]
    return min(trained.seconds / len(trained.sizes) for trained in timed)


class Modes:
    """The modes of a session's runs. auto is measured once for each configuration."""

    def __init__(self, dataset: Dataset, device: torch.device, options: Options) -> None:
        self._dataset, self._device, self._options = dataset, device, options
        self._chosen: dict[str, str] = {}

    def of(self, spec: RunSpec, directory: RunDirectory) -> str:
        """Return the mode of a run. Unless the options say auto, this is the mode of the options.

        With auto, a run that has begun keeps its mode, because its metrics have the rounding of that mode. A new run
        gets the fastest mode for its configuration, and the callback ``say`` reports it.
        """
        if self._options.mode != "auto" or directory.summary() is not None:
            return self._options.mode
        begun = directory.begun().get("mode")
        if begun:
            return str(begun)
        if spec.label not in self._chosen:
            choice = choose_mode(spec, self._dataset, self._device, self._options.say)
            if choice.why:
                self._options.say(f"{spec.label}: --compile {choice.mode} ({choice.why})")
            self._chosen[spec.label] = choice.mode
        return self._chosen[spec.label]
