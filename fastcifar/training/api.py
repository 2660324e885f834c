"""Train one run from Python: `train_run`, with names or objects."""

from contextlib import closing
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.experiments import PRETRAINED
from fastcifar.runs.code import changed_since
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.logs import log_of
from fastcifar.runs.plan import headline_runs, precision_of, weights_for
from fastcifar.runs.settings import SETTABLE, require_key, typed
from fastcifar.runs.spec import RunSpec
from fastcifar.system.devices import device_of
from fastcifar.system.launch import leads, processes
from fastcifar.system.paths import path_of
from fastcifar.training.heads import can_be_cached, train_heads
from fastcifar.training.loop import train
from fastcifar.training.options import Options, Watch, silent
from fastcifar.training.record import threads_as_begun

PLANNED: dict[str, type] = {"experiment": int, "protocol": str, "model": str, "seed": int, "pipeline": str, "amp": str}
"""The keywords of `train_run` besides SETTABLE, with their types."""


def train_run(
    spec: RunSpec | None = None,
    data: Dataset | Path | str = "data/cifar10",
    *,
    out: Path | str = "runs",
    watch: Watch = lambda line: None,
    device: torch.device | str = "auto",
    weights: str | None = None,
    compile: str | None = None,
    log: str = "none",
    say: Any = silent,
    **settings: Any,
) -> dict[str, Any]:
    """Train a run, or resume it, and return its summary with the entries run_id and directory.

    ``train_run(experiment=2, data="data/cifar10", lr=1e-3, seed=0, epochs=2, watch=print)`` trains what ``fastcifar
    train --exp 2 --set lr=1e-3 --seeds 0 --epochs 2`` trains. A finished run is not trained again.

    spec: the run. Without a spec, ``settings`` describe it: experiment (default 2), protocol ("sound"), model, seed
    (0), pipeline ("resident"), amp ("auto"), and the keys of --set: batch_size, lr, l2, dropout, recipe, epochs,
    precision, tune, optimizer, schedule, smoothing. The experiment's headline configuration has the other values.

    data: a dataset, or the path of a dataset directory. out: the folder of the run directories.

    watch: a callback for each epoch's line of metrics.jsonl, with the keys epoch (from 1), train_loss and val_loss (in
    nats; None where they are not finite), val_accuracy (in [0, 1]), lr (of the last step), time (of its end, in seconds
    since 1970-01-01 UTC), seconds, images_per_s and stall (in [0, 1]). The lines of earlier sessions come first. The
    epoch is on the disk when the callback gets it. An exception that the callback raises ends the training and reaches
    the caller, and the same call later continues the run; so a trial of Optuna is pruned with ``raise
    optuna.TrialPruned``.

    device: "auto", "cpu", "cuda", "cuda:N" or a torch device. weights: for pretrained networks, as --weights. compile:
    one of training.modes.MODES; None means graph where it is possible, else none. log: as --log. say: a callback for
    messages to people.

    Raises UsageError for an unknown keyword or name and for a value out of range, FastcifarError where the directory is
    in use or damaged, and the errors of ``watch``.
    """
    if not callable(watch):
        raise UsageError(f"watch {watch!r} cannot be called; give a function of an epoch's line of metrics")
    for name, place in (("data", data), ("out", out)):
        if not isinstance(place, (str, PathLike, Dataset)):
            raise UsageError(f"{name} {place!r} is not the path of a folder; give one")
    dataset = data if isinstance(data, Dataset) else Dataset.open(data)
    on, folder = device_of(str(device)), path_of(out)
    if spec is None:
        spec = _spec_of(dataset, on, weights, settings)
    elif settings:
        raise UsageError(
            f"train_run has a spec and {', '.join(settings)}; give one of them, or change the spec with "
            "dataclasses.replace"
        )
    initial = weights_for(spec.experiment, spec.model, weights if spec.weights != "none" else "none")
    if initial.note:
        say(initial.note)
    if initial.identity != spec.weights:
        raise UsageError(
            f"the spec names the weights {spec.weights}, but those found are {initial.identity}; give their file with "
            "weights="
        )
    if changed := changed_since(spec, folder):
        say(changed)
    directory = RunDirectory.of(spec, folder)
    with closing(log_of(log if leads() else "none")(spec, directory)) as events:

        def told(line: Any) -> None:
            events(line)
            watch(deepcopy(line))  # a callback that changes its line does not change the run

        options = Options(compile or _mode_of(spec, on), initial.tensors, say)
        if can_be_cached(spec):
            (summary,) = train_heads([spec], dataset, folder, on, {spec: told}, options)
        else:
            with threads_as_begun(directory, spec.run_id, say):
                summary = train(spec, dataset, folder, on, told, options)
    return {"run_id": spec.run_id, "directory": str(directory.path), **summary}


def _spec_of(dataset: Dataset, device: torch.device, weights: str | None, settings: dict[str, Any]) -> RunSpec:
    known = {**PLANNED, **SETTABLE}
    for key in settings:
        require_key(key, known, "train_run")
    values = {key: typed(key, value, known, "train_run") for key, value in settings.items() if value is not None}
    number, amp = values.pop("experiment", 2), values.pop("amp", "auto")
    seed, protocol = values.pop("seed", 0), values.pop("protocol", "sound")
    if weights is not None or number == PRETRAINED:
        values["weights"] = weights_for(number, values.get("model"), weights).identity
    values.setdefault("precision", precision_of(amp, device, number))
    (spec,) = headline_runs(number, dataset, protocol, [seed], **values)
    return spec


def _mode_of(spec: RunSpec, device: torch.device) -> str:
    possible = device.type == "cuda" and spec.pipeline == "resident" and processes() == 1
    return "graph" if possible else "none"
