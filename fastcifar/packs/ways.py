"""The ways to train a pack, and doing so: one run after another, one a core, or all as one program."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError
from fastcifar.packs import convolution
from fastcifar.packs.stacked import can_stack
from fastcifar.packs.training import train_stacked
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine
from fastcifar.system.devices import a_thread_each
from fastcifar.training.heads import can_be_cached, train_heads
from fastcifar.training.loop import train
from fastcifar.training.options import Options

SERIAL, SIDE_BY_SIDE, STACKED = "serial", "side-by-side", convolution.WAYS
WAYS = (SERIAL, SIDE_BY_SIDE, *STACKED)
"""serial: one run after another, each on the whole device; side-by-side: on the CPU, a run a core; grouped, im2col: one
program with a leading run dimension, its convolutions grouped, or products of matrices"""

Watch = Callable[[RunSpec, Mapping[str, Any]], None]
Outcome = dict[str, Any] | Exception


class Stopped(Exception):
    """Raised by a watch to end the training of its pack; all that was trained is kept."""


def possible(spec: RunSpec, device: torch.device) -> list[str]:
    """The ways in which runs like this one can be trained on a device."""
    ways = [SERIAL]
    if can_stack(spec) is not None:
        return ways
    if device.type == "cpu" and machine.usable_cores() > 1:
        ways.append(SIDE_BY_SIDE)
    return [*ways, *(STACKED if spec.model == "cnn" else STACKED[:1])]  # others have no convolutions


def mode_of(spec: RunSpec, device: torch.device) -> str:
    """How the steps of a pack's runs are run: compilation.MODES."""
    return "graph" if device.type == "cuda" and spec.pipeline == "resident" else "none"


def train_pack(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    device: torch.device,
    way: str,
    watch: Watch,
    ended: Callable[[RunSpec, Outcome], None],
    say: Callable[[str], None] = lambda text: None,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Train runs of one shape in a way of WAYS, or go on with them, each in its directory under ``out``.

    watch: called with each run's epochs, those of earlier sessions first, from any thread; when it raises Stopped, so
    does this. ended: called once for each run, with its summary or with what made it fail; the others go on.
    """
    mode = mode_of(specs[0], device)
    if way in STACKED:
        train_stacked(specs, dataset, out, device, way, watch, ended, say, mode)
        return
    if can_be_cached(specs[0]):
        for seeds in _configurations(specs):
            _heads(seeds, dataset, out, device, tensors or {}, watch, ended, say)
        return

    def alone(spec: RunSpec) -> None:
        try:
            outcome: Outcome = train(
                spec, dataset, out, device, lambda line: watch(spec, line), Options(mode, tensors or {}, say)
            )
        except (FastcifarError, RuntimeError, OSError) as error:
            outcome = error
        ended(spec, outcome)

    if way == SERIAL:
        for spec in specs:
            alone(spec)
        return
    with a_thread_each(), ThreadPoolExecutor(machine.usable_cores(), "fastcifar-run") as pool:
        waiting = [pool.submit(alone, spec) for spec in specs]
        try:
            for future in waiting:
                future.result()
        finally:
            for future in waiting:
                future.cancel()


def _configurations(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """The seeds of each configuration: those whose last layers are trained together."""
    grouped: dict[str, list[RunSpec]] = {}
    for spec in specs:
        grouped.setdefault(f"{spec.label} {spec.epochs}", []).append(spec)
    return list(grouped.values())


def _heads(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    device: torch.device,
    tensors: Mapping[str, Tensor],
    watch: Watch,
    ended: Callable[[RunSpec, Outcome], None],
    say: Callable[[str], None],
) -> None:
    watches = {spec: (lambda line, spec=spec: watch(spec, line)) for spec in specs}
    outcomes: Sequence[Outcome]
    try:
        outcomes = train_heads(specs, dataset, out, device, watches, Options(tensors=tensors, say=say))
    except (FastcifarError, RuntimeError, OSError) as error:
        outcomes = [error] * len(specs)
    for spec, outcome in zip(specs, outcomes, strict=True):
        ended(spec, outcome)
