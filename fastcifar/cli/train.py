"""The command ``fastcifar train``: its options and output."""

import json
import sys
from typing import Annotated

import typer

from fastcifar.cli.config import Config, merged
from fastcifar.cli.options import DATA, RUNS, Amp, Augmented, Batches, Data, Device, Epochs, Json, RunsTo, integers
from fastcifar.cli.results import show_results
from fastcifar.show.console import note


def train_command(
    exp: Annotated[int, typer.Option(help="Experiment: 1 MLP, 2 CNN, 3 ViT, 4 pretrained networks.")],
    data: Data = DATA,
    model: Annotated[
        str | None,
        typer.Option(
            help="A model of the experiment, see `fastcifar list`; your own: package.module:factory; for 4 any of "
            "torchvision's, or timm:NAME."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="For 4: a .pth or .safetensors file, or none; default: ImageNet's, cached or downloaded."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "0,1,2",
    protocol: Annotated[str, typer.Option(help="sound, report or as-run.")] = "sound",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            callback=merged,
            help="key=value: batch_size, lr, l2, dropout, recipe, optimizer (adam, adamw, sgd, muon), schedule "
            "(constant, cosine, onecycle), smoothing, tune (full, head, as-run). May be repeated.",
        ),
    ] = None,
    augment: Augmented = None,
    epochs: Epochs = None,
    device: Device = "auto",
    amp: Amp = "auto",
    compile_: Annotated[
        str, typer.Option("--compile", help="auto (the fastest by measurement), graph, inductor or none.")
    ] = "auto",
    pipeline: Batches = "resident",
    log: Annotated[str, typer.Option(help="none, tensorboard, wandb or mlflow.")] = "none",
    out: RunsTo = RUNS,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Train an experiment's headline configuration with three seeds, and show a table of the results.

    It can be interrupted at any time: the same command continues the runs, with the same metrics.

    Examples: fastcifar train --exp 2 --data data/cifar10 --set recipe=erasing --seeds 0,1,2

    fastcifar train --exp 4 --model efficientnet_v2_s --data data/cifar10

    torchrun --nproc-per-node=gpu -m fastcifar train --exp 4 --data data/cifar10
    """
    from fastcifar.data.dataset import Dataset
    from fastcifar.runs.logs import log_of
    from fastcifar.runs.plan import headline_runs, precision_of, weights_for
    from fastcifar.runs.settings import SETTABLE, parse_overrides
    from fastcifar.system.devices import device_of, leads
    from fastcifar.training import session
    from fastcifar.training.options import Options

    events = log_of(log)
    dataset, on = Dataset.open(data), device_of(device)
    initial = weights_for(exp, model, weights)
    overrides = parse_overrides(settings or [], SETTABLE) | ({} if epochs is None else {"epochs": epochs})
    overrides |= {} if augment is None else {"recipe": augment}
    defaults = {"precision": precision_of(amp, on, exp), "pipeline": pipeline, "weights": initial.identity}
    specs = headline_runs(exp, dataset, protocol, integers(seeds), model=model, **defaults | overrides)
    say = note if leads() else lambda text: None
    say(f"{dataset.name} on {on}, {specs[0].precision}, {len(specs)} runs into {out}/exp{exp}")
    try:
        done = session.run(specs, dataset, out, on, Options(compile_, initial.tensors, say), events)
    except KeyboardInterrupt:
        say("stopped; the same command continues from the last whole epoch")
        sys.exit(130)
    if not leads():
        return
    if as_json:
        print(json.dumps([{"run_id": spec.run_id, **summary} for spec, summary in zip(specs, done.summaries)]))  # noqa: B905
        return
    show_results(done, out / f"exp{exp}" / f"{specs[0].label}.png")
