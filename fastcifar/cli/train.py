"""The command ``fastcifar train``: its options and output."""

import json
import sys
from typing import Annotated

import typer

from fastcifar.cli.complete import choices, experiments, models, modes, protocols
from fastcifar.cli.complete import settings as completed
from fastcifar.cli.config import Config, merged
from fastcifar.cli.options import (
    DATA,
    RUNS,
    Amp,
    Augmented,
    Batches,
    Data,
    Device,
    Epochs,
    Json,
    Logged,
    RunsTo,
    Unverified,
    Wide,
    integers,
)
from fastcifar.cli.results import show_results
from fastcifar.show.console import next_step, note
from fastcifar.show.text import counted


def train_command(
    exp: Annotated[
        int,
        typer.Option(
            help="Experiment: 1 MLP, 2 CNN, 3 ViT, 4 pretrained networks.", autocompletion=choices(experiments)
        ),
    ],
    data: Data = DATA,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of the experiment, see `fastcifar list`; your own: package.module:factory; for 4 any of "
            "torchvision's, or timm:NAME.",
            autocompletion=models,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="For 4: a .pth or .safetensors file, or none; default: ImageNet's, cached or downloaded."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    protocol: Annotated[
        str, typer.Option(help="sound, report or as-run.", autocompletion=choices(protocols))
    ] = "sound",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            callback=merged,
            help="key=value: batch_size, lr, l2, dropout, recipe, optimizer (adam, adamw, sgd, muon), schedule "
            "(constant, cosine, onecycle), smoothing, tune (full, head, as-run). May be repeated.",
            autocompletion=completed("--set", several=False),
        ),
    ] = None,
    augment: Augmented = None,
    epochs: Epochs = None,
    device: Device = "auto",
    amp: Amp = "auto",
    compile_: Annotated[
        str,
        typer.Option(
            "--compile",
            help="auto (the fastest by measurement), graph, inductor or none.",
            autocompletion=choices(modes),
        ),
    ] = "auto",
    pipeline: Batches = "resident",
    log: Logged = "none",
    no_verify: Unverified = False,
    out: RunsTo = RUNS,
    wide: Wide = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Train an experiment's headline configuration with three seeds, and show a table of the results.

    It can be interrupted at any time: the same command continues the runs, with the same metrics.

    Examples: fastcifar train --exp 2 --data data/cifar10 --set recipe=erasing --seeds 0,1,2

    fastcifar train --exp 4 --model efficientnet_v2_s --data data/cifar10

    torchrun --nproc-per-node=gpu -m fastcifar train --exp 4 --data data/cifar10
    """
    from dataclasses import replace

    from fastcifar.data.dataset import Dataset
    from fastcifar.runs.logs import log_of
    from fastcifar.runs.plan import check_amp, check_weights, headline_runs, precision_of, weights_for
    from fastcifar.runs.settings import SETTABLE, parse_overrides
    from fastcifar.system import openmp
    from fastcifar.system.launch import check_device, leads, processes
    from fastcifar.training.modes import check_mode

    # whatever can be refused is refused before torch is imported, which takes seconds
    check_amp(amp)
    check_device(device)
    check_mode(compile_)
    check_weights(exp, model, weights)
    events, dataset = log_of(log), Dataset.open(data, not no_verify)
    overrides = parse_overrides(settings or [], SETTABLE) | ({} if epochs is None else {"epochs": epochs})
    overrides |= {} if augment is None else {"recipe": augment}
    specs = headline_runs(exp, dataset, protocol, integers(seeds), model=model, **{"pipeline": pipeline, **overrides})
    say = note if leads() else lambda text: None
    say(f"{dataset.name}: {counted(len(specs), 'run')} into {out}/exp{exp}; loading torch")
    openmp.choose(say)

    from fastcifar.system.devices import device_of
    from fastcifar.training import session
    from fastcifar.training.options import Options

    on = device_of(device)
    initial = weights_for(exp, model, weights)
    if initial.note:
        say(initial.note)
    precision = overrides.get("precision", precision_of(amp, on, exp))
    specs = [replace(spec, precision=precision, weights=initial.identity) for spec in specs]
    say(f"{on}, {specs[0].precision}")
    try:
        done = session.run(specs, dataset, out, on, Options(compile_, initial.tensors, say), events)
    except KeyboardInterrupt:
        say("stopped; the same command continues from the last whole epoch")
        if leads() and processes() == 1:
            next_step(*sys.argv[1:])
        sys.exit(130)
    if not leads():
        return
    if as_json:
        print(json.dumps([{"run_id": spec.run_id, **summary} for spec, summary in zip(specs, done.summaries)]))  # noqa: B905
        return
    show_results(done, out / f"exp{exp}" / f"{specs[0].label}.png", wide)
    next_step("runs", "--out", out, "--only", f"experiment={exp}", "--sort", "-val_accuracy")
