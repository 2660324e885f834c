"""Train a pack in one of three ways: one run after another, one run on each core, or all runs as one program."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError
from fastcifar.packs.adam import has_kernel
from fastcifar.packs.names import SERIAL, SIDE_BY_SIDE, STACKED
from fastcifar.packs.options import Callbacks, Outcome, PackOptions
from fastcifar.packs.stacked import can_stack
from fastcifar.packs.training import train_stacked
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine
from fastcifar.system.devices import threads
from fastcifar.training.heads import can_be_cached, train_heads
from fastcifar.training.loop import train
from fastcifar.training.record import threads_as_begun

STACKED_BY_MODEL = {"cnn": ("grouped", "im2col", "fused"), "vit": ("grouped", "fused")}
"""The ways of STACKED for networks whose layers they change. vit_as_run has dropout within its attention."""


def possible(spec: RunSpec, device: torch.device) -> list[str]:
    """Return the ways in which runs like ``spec`` can be trained on a device."""
    ways = [SERIAL]
    if can_stack(spec) is not None:
        return ways
    if device.type == "cpu" and machine.usable_cores() > 1:
        ways.append(SIDE_BY_SIDE)
    stacked = STACKED_BY_MODEL.get(spec.model, STACKED[:1])
    without_effect = ["fused"] if spec.model == "cnn" and not has_kernel(device) else []
    return [*ways, *(way for way in stacked if way not in without_effect)]


def mode_of(spec: RunSpec, device: torch.device) -> str:
    """Return the execution mode of a pack's training steps, one of training.modes.MODES."""
    return "graph" if device.type == "cuda" and spec.pipeline == "resident" else "none"


def train_pack(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    device: torch.device,
    options: PackOptions,
    callbacks: Callbacks,
) -> None:
    """Train runs of one shape in a way of WAYS, or resume them, each in its directory under ``out``.

    `mode_of` replaces the mode of ``options``. A run that fails does not affect the others. Raises Stopped where a
    callback raises it.
    """
    options = replace(options, mode=mode_of(specs[0], device))
    if options.way in STACKED:
        train_stacked(specs, dataset, out, device, options, callbacks)
        return
    if can_be_cached(specs[0]):
        for seeds in _configurations(specs):
            _heads(seeds, dataset, out, device, options, callbacks)
        return

    def alone(spec: RunSpec) -> None:
        begun = threads_as_begun(RunDirectory.of(spec, out), spec.run_id, options.say)
        try:
            with begun if options.way == SERIAL else nullcontext():  # side by side, each run has one thread
                outcome: Outcome = train(spec, dataset, out, device, partial(callbacks.watch, spec), options)
        except (FastcifarError, RuntimeError, OSError) as error:
            outcome = error
        callbacks.ended(spec, outcome)

    if options.way == SERIAL:
        for spec in specs:
            alone(spec)
        return
    with threads(1), ThreadPoolExecutor(machine.usable_cores(), "fastcifar-run") as pool:
        waiting = [pool.submit(alone, spec) for spec in specs]
        try:
            for future in waiting:
                future.result()
        finally:
            for future in waiting:
                future.cancel()


def _configurations(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """Return the runs grouped by configuration. The last layers of a group's runs are trained together."""
    grouped: dict[str, list[RunSpec]] = {}
    for spec in specs:
        grouped.setdefault(f"{spec.label} {spec.epochs}", []).append(spec)
    return list(grouped.values())


def _heads(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    device: torch.device,
    options: PackOptions,
    callbacks: Callbacks,
) -> None:
    watches = {spec: (lambda line, spec=spec: callbacks.watch(spec, line)) for spec in specs}
    outcomes: Sequence[Outcome]
    try:
        outcomes = train_heads(specs, dataset, out, device, watches, options)
    except (FastcifarError, RuntimeError, OSError) as error:
        outcomes = [error] * len(specs)
    for spec, outcome in zip(specs, outcomes, strict=True):
        callbacks.ended(spec, outcome)
