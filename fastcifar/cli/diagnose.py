"""The command ``fastcifar diagnose``: its options and output. The work is done in fastcifar.diagnose, which is imported
when the command runs.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fastcifar.cli.options import DATA, Amp, Data, Device, Json, Unverified, listed
from fastcifar.show.console import console, note, say
from fastcifar.system.paths import path_of

diagnose = typer.Typer(no_args_is_help=True, help="Settle a question about training by an experiment.")


@diagnose.command()
def bn(
    data: Data = DATA,
    model: Annotated[
        str,
        typer.Option(help="A network with BatchNorm: torchvision's, timm:NAME, or your own: package.module:factory."),
    ] = "resnet18",
    weights: Annotated[
        str | None,
        typer.Option(help="A .pth or .safetensors file, or none; default: ImageNet's, cached or downloaded."),
    ] = None,
    suspects: Annotated[
        str, typer.Option(help="The suspects to measure, comma-separated; the others are not run.")
    ] = "drift,statistics,split,weights",
    momenta: Annotated[
        str,
        typer.Option(help="BatchNorm's momenta in training mode, comma-separated: ResNet18 has 0.1, MobileNetV3 0.01."),
    ] = "0.1,0.01",
    epochs: Annotated[int, typer.Option(help="Epochs of each arm.")] = 10,
    per_epoch: Annotated[int, typer.Option(help="Evaluations in each epoch, evenly spaced.")] = 2,
    heads: Annotated[
        int, typer.Option(min=3, help="Seeds of the suspect split, from --seed on; they cost seconds.")
    ] = 20,
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
    amp: Amp = "auto",
    out: Annotated[Path, typer.Option(parser=path_of, help="The folder to make: rows, tables, picture.")] = Path(
        "diagnosis-bn"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the diagnosis at OUT.")] = False,
    no_verify: Unverified = False,
    as_json: Json = False,
) -> None:
    """Why is the validation loss of a frozen network unstable? Measure each suspect by itself, and give a verdict on
    it. drift: every batch in training mode moves BatchNorm's running statistics. statistics: they replace the
    pretrained ones. split: each seed draws its own validation images. weights: all weights are trained.

    Example: fastcifar diagnose bn --data data/cifar10 --model resnet18 --epochs 10 --images 2000
    """
    from dataclasses import replace

    from fastcifar.data.dataset import Dataset
    from fastcifar.diagnose.suspects import suspects_of
    from fastcifar.experiments import PRETRAINED
    from fastcifar.runs.plan import check_amp, check_weights
    from fastcifar.system import openmp
    from fastcifar.system.launch import check_device

    # whatever can be refused is refused before torch is imported, which takes seconds
    names = suspects_of(suspects)
    check_amp(amp)
    check_device(device)
    check_weights(PRETRAINED, model, weights)
    whole = Dataset.open(data, not no_verify)
    note(f"{whole.name}: {model}; loading torch")
    openmp.choose(note)
    from fastcifar.diagnose import batchnorm, record
    from fastcifar.diagnose.arms import arms_of
    from fastcifar.diagnose.experiment import Experiment
    from fastcifar.diagnose.running import Running
    from fastcifar.diagnose.sample import Sample
    from fastcifar.diagnose.splits import check_still
    from fastcifar.models.build import build
    from fastcifar.runs.plan import headline_runs, precision_of, weights_for
    from fastcifar.show.text import duration
    from fastcifar.system.devices import device_of
    from fastcifar.training.single import check_single_images

    record.check_folder(out, overwrite)
    on = device_of(device)
    arms = arms_of(listed(momenta, "--momenta", float, "numbers such as 0.1,0.01"))
    dataset = whole if images is None else Sample(whole, images, seed)
    (spec,) = headline_runs(
        PRETRAINED, dataset, seeds=[seed], model=model, batch_size=batch_size, lr=lr, epochs=epochs, recipe=recipe,
        precision=precision_of(amp, on, PRETRAINED), tune="head",
    )  # fmt: skip
    # fail before the weights are downloaded
    Running(build(spec.model, len(dataset.classes), spec.dropout, seed, spec.code, spec.fine_tuned), model)
    check_still(spec, names)
    check_single_images([replace(spec, tune="as-run")], dataset)
    initial = weights_for(PRETRAINED, model, weights)
    if initial.note:
        note(initial.note)
    experiment = Experiment(replace(spec, weights=initial.identity), dataset, initial, on, per_epoch, note)
    note(f"{on}, {spec.precision}")
    try:
        made = batchnorm.diagnose(experiment, arms, names, whole, images, heads)
    except KeyboardInterrupt:
        note(f"stopped; nothing was written to {out}")
        sys.exit(130)
    note("; ".join(f"{name}: {duration(seconds)}" for name, seconds in made.seconds.items()))
    summary = record.summary(experiment, made)
    record.write_diagnosis(out, made, summary, overwrite)
    if as_json:
        print(json.dumps(summary | {"folder": str(out)}))
        return
    if made.findings:
        console().print(record.finding_table(made.findings))
    for judged in made.judgements:
        say(judged.sentence)
    say(f"tables, picture and rows: {out}")
