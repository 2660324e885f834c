"""The command ``fastcifar diagnose``: its options and output. The work is done in fastcifar.diagnose, which is imported
when the command runs.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastcifar.cli.options import DATA, Data, Device, Json, Unverified, listed
from fastcifar.show.console import console, note, say
from fastcifar.system.paths import path_of

diagnose = typer.Typer(no_args_is_help=True, help="Settle a question about training by an experiment.")


@diagnose.command()
def bn(
    data: Data = DATA,
    model: Annotated[str, typer.Option(help="A network with BatchNorm: torchvision's, or timm:NAME.")] = "resnet18",
    weights: Annotated[
        str | None,
        typer.Option(help="A .pth or .safetensors file, or none; default: ImageNet's, cached or downloaded."),
    ] = None,
    momenta: Annotated[
        str,
        typer.Option(help="BatchNorm's momenta in training mode, comma-separated: ResNet18 has 0.1, MobileNetV3 0.01."),
    ] = "0.1,0.01",
    epochs: Annotated[int, typer.Option(help="Epochs of each arm.")] = 10,
    last: Annotated[int, typer.Option(min=3, help="Evaluate after each of the last N steps of an epoch.")] = 8,
    recipe: Annotated[
        str | None, typer.Option("--recipe", "--augment", help="Recipe of the images; default: that of the weights.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Batch size of training.")] = 128,
    lr: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-4,
    seed: Annotated[int, typer.Option(help="Seed of the head's initial weights and of the order of images.")] = 0,
    images: Annotated[
        int | None, typer.Option(help="The most images for training and for validation, drawn by the seed.")
    ] = None,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(parser=path_of, help="The folder to make: rows, tables, picture.")] = Path(
        "diagnosis-bn"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the diagnosis at OUT.")] = False,
    no_verify: Unverified = False,
    as_json: Json = False,
) -> None:
    """Does BatchNorm in training mode make a frozen network's validation loss unstable? Train the same new last layer
    twice: with BatchNorm in training mode, where every batch changes its running statistics, and in eval mode, where
    none does. Then evaluate the same heads with the initial statistics restored.

    Example: fastcifar diagnose bn --data data/cifar10 --model resnet18 --epochs 10 --images 5000
    """
    from dataclasses import replace

    from fastcifar.data.dataset import Dataset
    from fastcifar.runs.plan import PRETRAINED, check_weights
    from fastcifar.system import openmp
    from fastcifar.system.launch import check_device

    # whatever can be refused is refused before torch is imported, which takes seconds
    check_device(device)
    check_weights(PRETRAINED, model, weights)
    dataset = Dataset.open(data, not no_verify)
    note(f"{dataset.name}: {model}; loading torch")
    openmp.choose(note)
    from fastcifar.diagnose import record, verdict
    from fastcifar.diagnose.batchnorm import BatchNormExperiment, Sample, Statistics, arms_of
    from fastcifar.models.build import build
    from fastcifar.runs.plan import headline_runs, weights_for
    from fastcifar.show.progress import track
    from fastcifar.system.devices import device_of
    from fastcifar.training.single import check_single_images

    record.check_folder(out, overwrite)
    on = device_of(device)
    arms = arms_of(listed(momenta, "--momenta", float, "numbers such as 0.1,0.01"))
    Statistics(build(model, len(dataset.classes), 0, seed), model)  # fail before the weights are downloaded
    initial = weights_for(PRETRAINED, model, weights)
    if initial.note:
        note(initial.note)
    if images is not None:
        dataset = Sample(dataset, images, seed)
    (spec,) = headline_runs(
        PRETRAINED, dataset, seeds=[seed], model=model, batch_size=batch_size, lr=lr, epochs=epochs, recipe=recipe,
        weights=initial.identity,
    )  # fmt: skip
    check_single_images([replace(spec, tune="as-run")], dataset)
    experiment = BatchNormExperiment(spec, dataset, initial, on, arms, last, note)
    evaluations = list(track(experiment, f"{len(arms)} arms of {epochs} epochs"))
    findings = verdict.findings(evaluations)
    summary = record.summary(experiment, findings)
    record.write_diagnosis(out, evaluations, findings, summary, overwrite)
    if as_json:
        print(json.dumps(summary | {"folder": str(out)}))
        return
    console().print(record.finding_table(findings))
    say(summary["sentence"])
    say(f"tables, picture and rows: {out}")
