"""What ``fastcifar train`` does between its options and its table: specs, runs one after another, results."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from fastcifar import machine
from fastcifar.compilation import choose
from fastcifar.dataset import Dataset
from fastcifar.distributed import Team, leads
from fastcifar.errors import UsageError
from fastcifar.events import Log, log_of
from fastcifar.experiments import SEEDS, experiment
from fastcifar.heads import can_be_cached, train_heads
from fastcifar.models.pretrained import TIMM, is_pretrained, preprocessing
from fastcifar.models.published import NONE, Weights, weights_of
from fastcifar.outcome import diverged
from fastcifar.pipeline import pipeline_names
from fastcifar.report.curves import curves
from fastcifar.runs import RunDirectory, RunSpec
from fastcifar.train import train

PRETRAINED = 4  # the experiment whose networks are
AMP = ("auto", "off", "bfloat16", "float16")


@dataclass(frozen=True)
class Session:
    """The finished runs of a session, in order: their specs, directories and summaries."""

    specs: Sequence[RunSpec]
    directories: Sequence[RunDirectory]
    summaries: Sequence[Mapping[str, Any]]

    def by_configuration(self) -> dict[str, list[Mapping[str, Any]]]:
        """The summaries of each configuration's seeds."""
        grouped: dict[str, list[Mapping[str, Any]]] = {}
        for spec, summary in zip(self.specs, self.summaries, strict=True):
            grouped.setdefault(spec.label, []).append(summary)
        return grouped

    def draw_curves(self, path: Path) -> None:
        """Write the picture of losses and accuracies."""
        grouped: dict[str, list[list[dict[str, Any]]]] = {}
        for spec, directory in zip(self.specs, self.directories, strict=True):
            grouped.setdefault(spec.label, []).append(directory.metrics())
        curves(grouped, path)


def plan(
    number: int,
    dataset: Dataset,
    *,
    model: str | None = None,
    protocol: str = "sound",
    seeds: Iterable[int] = SEEDS,
    overrides: Mapping[str, Any] | None = None,
    precision: str = "float32",
    pipeline: str = "resident",
    weights: str = NONE,
) -> list[RunSpec]:
    """The specs of an experiment's headline configuration (with ``overrides``), one a seed.

    weights: the identity of what a pretrained network begins with. Raises UsageError for what does not exist or is out
    of range.
    """
    declared = experiment(number, protocol)
    chosen = dict(overrides or {})
    if model is not None:
        if number == PRETRAINED and is_pretrained(model):
            chosen = {"recipe": preprocessing(model).recipe, **chosen}
        elif model not in declared.models:
            raise UsageError(
                f"experiment {number} under protocol {protocol} has no model {model!r}; "
                f"there are {', '.join(declared.models)}"
            )
        chosen["model"] = model
    if pipeline not in pipeline_names():
        raise UsageError(f"pipeline {pipeline!r} does not exist; there are {', '.join(pipeline_names())}")
    fields = {"precision": precision, "pipeline": pipeline, "weights": weights} | declared.configuration(**chosen)
    return [
        RunSpec(experiment=number, protocol=protocol, seed=seed, dataset=dataset.sha256, **fields) for seed in seeds
    ]


def weights_for(number: int, model: str | None, asked: str | None) -> Weights:
    """What the networks of an experiment begin with; ``asked`` is `published.weights_of`'s. Raises as that does, and
    UsageError where an experiment's networks have none.
    """
    if number != PRETRAINED:
        if asked not in (None, NONE):
            raise UsageError(f"--weights {asked}: experiment {number} trains from scratch; --exp {PRETRAINED} does not")
        return Weights(NONE, {})
    name = model or experiment(number, "sound").headline["model"]
    if not is_pretrained(name):
        raise UsageError(f"model {name!r} is neither one of torchvision's classification networks nor {TIMM}NAME")
    return weights_of(name, asked)


def run(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    out: Path,
    device: torch.device,
    mode: str = "auto",
    say: Callable[[str], None] = lambda text: None,
    tensors: Mapping[str, Tensor] | None = None,
    log: Log = log_of("none"),
) -> Session:
    """Train the specs one after another, under a progress bar where a person is looking.

    mode: one of `compilation.MODES`; auto: that which a run was begun in, else the fastest for its configuration.
    say: told what auto chose, and the memory that a run took. tensors: what pretrained networks begin with.
    log: who else is told of each run's epochs, by the process that writes.
    """
    log = log if leads() else log_of("none")
    chosen: dict[str, str] = {}
    summaries: list[dict[str, Any]] = []
    shown = sys.stderr.isatty() and leads()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn(),
        TextColumn("{task.fields[news]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        tasks = {}

        def watched(spec: RunSpec, logs: ExitStack) -> Callable[[Mapping[str, Any]], None]:
            tasks[spec] = progress.add_task(f"{spec.label}, seed {spec.seed}", total=spec.epochs, news="")
            events = logs.enter_context(closing(log(spec, RunDirectory.of(spec, out))))

            def watch(line: Mapping[str, Any]) -> None:
                progress.update(tasks[spec], advance=1, news=_news(line))
                events(line)

            return watch

        def ended(spec: RunSpec, summary: dict[str, Any]) -> None:
            progress.update(tasks[spec], total=summary["epochs"], completed=summary["epochs"])
            summaries.append(summary)

        for together in _together(specs):
            with ExitStack() as logs:
                watches = {spec: watched(spec, logs) for spec in together}
                if can_be_cached(together[0]):
                    trained = train_heads(together, dataset, out, device, tensors or {}, watches, say)
                    for spec, summary in zip(together, trained, strict=True):
                        ended(spec, summary)
                    continue
                (spec,) = together
                directory, now = RunDirectory.of(spec, out), mode
                if mode == "auto" and directory.summary() is None:
                    now = _mode(spec, dataset, directory, device, chosen, say)
                summary = train(spec, dataset, out, device, watches[spec], now, tensors, say)
                if summary.get("peak_device_bytes"):
                    peak = f"{summary['peak_device_bytes'] / 2**20:,.0f} MiB"
                    say(f"{spec.label}, seed {spec.seed}: took at most {peak} of {device}")
                ended(spec, summary)
    Team.joined(device).leave()
    return Session(specs, [RunDirectory.of(spec, out) for spec in specs], summaries)


def _together(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """The specs in their order: neighbours that are one configuration of cached features together, others alone."""
    groups: list[list[RunSpec]] = []
    for spec in specs:
        if groups and can_be_cached(spec) and replace(groups[-1][0], seed=spec.seed) == spec:
            groups[-1].append(spec)
        else:
            groups.append([spec])
    return groups


def _news(line: Mapping[str, Any]) -> str:
    accuracy = "diverged" if diverged([dict(line)]) else f"{100 * line['val_accuracy']:.2f} %"
    share = f", {100 * line['peak_share']:.0f} % of the peak" if "peak_share" in line else ""
    return f"{accuracy}  {line['images_per_s']:,.0f} images/s{share}"


def _mode(
    spec: RunSpec,
    dataset: Dataset,
    directory: RunDirectory,
    device: torch.device,
    chosen: dict[str, str],
    say: Callable[[str], None],
) -> str:
    """The mode that a run was begun in, whose rounding its metrics have, else the fastest for its configuration."""
    begun = directory.begun().get("mode")
    if begun:
        return str(begun)
    if spec.label not in chosen:
        choice = choose(spec, dataset, device)
        if choice.why:
            say(f"{spec.label}: --compile {choice.mode} ({choice.why})")
        chosen[spec.label] = choice.mode
    return chosen[spec.label]


def precision_of(amp: str, device: torch.device, number: int | None = None) -> str:
    """The precision that --amp means on a device, for an experiment. auto: bfloat16 where the hardware multiplies it,
    else float32 on a CPU and float16 on a GPU; for pretrained networks on a CPU float32, as bfloat16 took MobileNetV3-S
    1.9 times as long (bench/results/finetuning-cpu.jsonl). Raises UsageError for an unknown name.
    """
    if amp not in AMP:
        raise UsageError(f"--amp {amp!r} is not one of {', '.join(AMP)}")
    if amp != "auto":
        return "float32" if amp == "off" else amp
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if number == PRETRAINED:
        return "float32"
    return "bfloat16" if machine.cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"
