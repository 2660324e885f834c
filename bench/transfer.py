"""Measure whether weights that were learnt on some classes help to learn others: pretrain on the first five classes,
fine-tune on the last five.

    python bench/transfer.py --data data/cifar10

The network is pretrained here, saved in torchvision's format, and loaded as ImageNet's weights are. Then it trains on
few images of the other classes, for the same number of epochs in each of three ways: the last layer alone (head), every
weight (full), and every weight from scratch.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image

from bench.lib import rows
from fastcifar.cli.options import integers
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.models.build import build
from fastcifar.models.published import NONE, Weights, read_weights
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.plan import headline_runs
from fastcifar.runs.spec import RunSpec
from fastcifar.show.text import parts
from fastcifar.system.measure import environment
from fastcifar.system.scratch import Scratch
from fastcifar.training import session
from fastcifar.training.options import Options

LR = {"head": 1e-2, "full": 1e-3}  # the last layer alone needs a larger learning rate


def of_classes(dataset: Dataset, labels: list[int], images_each: int, folder: Path) -> Dataset:
    """Return a dataset of the first ``images_each`` labelled images of each of the classes ``labels``."""
    for label in labels:
        source = folder / "train" / dataset.classes[label]
        source.mkdir(parents=True)
        for row in np.flatnonzero(dataset.labels("train") == label)[:images_each]:
            Image.fromarray(dataset.images("train")[row]).save(source / f"{row:05}.png", compress_level=1)
    return convert(str(folder), folder.with_suffix(".dataset"))


def specs_of(
    args: argparse.Namespace, dataset: Dataset, tune: str, weights: str, epochs: int, seeds: list[int]
) -> list[RunSpec]:
    """Return the specs of one way to fine-tune, one for each seed."""
    overrides = {"recipe": args.recipe, "batch_size": 64, "lr": LR[tune], "tune": tune, "epochs": epochs}
    return headline_runs(4, dataset, model=args.model, seeds=seeds, **overrides, precision="float32", weights=weights)


def as_torchvision_s(spec: RunSpec, out: Path, classes: int, path: Path) -> Weights:
    """Save the weights of a run's best epoch under torchvision's names at ``path``, and load them as a user's file is
    loaded. out: the folder of runs."""
    kept = RunDirectory.of(spec, out).load_tensors("model", torch.device("cpu"))
    assert kept is not None, "the run diverged and has no weights"
    place = build(spec.model, classes, 0.0, 0).head_place
    named = ((name.partition("."), tensor) for name, tensor in kept[0].items())
    torch.save({(f"{place}.{rest}" if part == "head" else rest): tensor for (part, _, rest), tensor in named}, path)
    return read_weights(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/cifar10"))
    parser.add_argument("--model", default="resnet18", help="any of torchvision's")
    parser.add_argument("--recipe", default="none", help="recipe of all images; a frozen backbone needs 'none'")
    parser.add_argument("--pretraining", default="2000,6", help="images a class, epochs")
    parser.add_argument("--tuning", default="400,5", help="images a class, epochs; a fifth of them validates")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "transfer-cpu.jsonl")
    options = parser.parse_args()
    cpu, dataset, around = torch.device("cpu"), Dataset.open(options.data), environment()
    (many, long), (few, short) = ([int(part) for part in parts(text)] for text in (options.pretraining, options.tuning))
    seeds, half = integers(options.seeds), len(dataset.classes) // 2
    collected = []
    with Scratch() as scratch:
        folder = Path(scratch)
        first = of_classes(dataset, list(range(half)), many, folder / "first")
        last = of_classes(dataset, list(range(half, 2 * half)), few, folder / "last")
        specs = specs_of(options, first, "full", NONE, long, [0])
        (pretraining,) = session.run(specs, first, folder, cpu, Options()).summaries
        print(f"pretrained: {100 * pretraining['val_accuracy']:.1f} % of {', '.join(first.classes)}", flush=True)
        pretrained = as_torchvision_s(specs[0], folder, half, folder / "pretrained.pth")
        for tune, weights in (("head", pretrained), ("full", pretrained), ("full", Weights(NONE, {}))):
            specs = specs_of(options, last, tune, weights.identity, short, seeds)
            done = session.run(specs, last, folder, cpu, Options(tensors=weights.tensors))
            for spec, summary in zip(specs, done.summaries, strict=True):
                collected.append(
                    {
                        "bench": "transfer",
                        "model": spec.model,
                        "recipe": spec.recipe,
                        "tune": tune,
                        "start": "scratch" if weights.identity == NONE else "pretrained",
                        "seed": spec.seed,
                        "lr": spec.lr,
                        "epochs": short,
                        "images": len(last.ids("training")),
                        "validation_images": len(last.ids("validation")),
                        "val_accuracy": summary["val_accuracy"],
                        "parameters": summary["parameters"],
                        "seconds": summary["seconds"],
                        "pretraining": {
                            "images": len(first.ids("training")),
                            "epochs": long,
                            "val_accuracy": pretraining["val_accuracy"],
                        },
                    }
                )
                row = collected[-1]
                print(f"{row['start']}, {tune}, seed {spec.seed}: {100 * row['val_accuracy']:.1f} %", flush=True)
    rows.write(({**row, "environment": around} for row in collected), options.out)


if __name__ == "__main__":
    main()
