"""Fine-tune networks with real ImageNet weights on CIFAR-10: accuracy by the size of the images and by the way to tune.

    python bench/pretrained.py --data data/cifar10 --weights resnet18_2223=resnet18_2223_imagenet-8d3e89fc.pth \
        --weights lite0=efficientnet-lite0-57934424.pth

Heads are trained on the features of all images, with three seeds, for each size that images are enlarged to: the whole
image, without a crop, bilinear. The other ways train on some of the images, with one seed, for a few epochs. Speeds are
measured by themselves, on a few images, as nothing else may run beside them: --only speed. A row that the file has is
not measured again, so the bench can be stopped and continued. The picture of the sizes lies beside the rows.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.lib import rows
from bench.tables.pretrained import accuracy
from fastcifar.data.dataset import Dataset
from fastcifar.models.published import read_weights
from fastcifar.report.statistics import of_mean
from fastcifar.show.console import note
from fastcifar.show.figures import axes_grid, colour, plain_axes, write_figure
from fastcifar.system.measure import environment
from fastcifar.training.api import train_run

SIZES = (32, 64, 96, 128, 160, 224)
"""The sides of the enlarged images in pixels, for networks that are made for 224."""
NETWORKS = {
    "resnet18_2223": ("imagenet", SIZES), "lite0": ("half", SIZES), "lite1": ("half", (240,)), "lite2": ("half", (260,))
}  # fmt: skip
"""The factories of bench/lib/backbones.py, each with the normalisation of its weights and the sizes to measure."""
SEEDS = (0, 1, 2)
SIDE = 224  # of the ways other than heads on all images
TRAINING, VALIDATION = 2_500, 1_000  # their images
FEW = 640, 160  # training and validation images for speeds
WAYS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "head": ("head", True, {"lr": 1e-3, "epochs": 10}),
    "as-run": ("as-run", True, {"lr": 1e-3, "epochs": 10}),
    "full": ("full", True, {"lr": 1e-4, "epochs": 5}),
    "scratch": ("full", False, {"lr": 1e-3, "epochs": 5}),
}
"""The ways to tune on some of the images: the setting tune, whether training begins with ImageNet's weights, and the
settings of these short runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", action="append", required=True, metavar="NETWORK=FILE", help=", ".join(NETWORKS))
    parser.add_argument("--amp", default="bfloat16", help="auto, off or bfloat16")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--only", choices=("size", "way", "speed"), help="measure a part")
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "pretrained-cpu.jsonl")
    options = parser.parse_args()
    files = {name: Path(path) for name, _, path in (each.partition("=") for each in options.weights)}
    if unknown := sorted(set(files) - set(NETWORKS)):
        parser.error(f"--weights {unknown[0]}: the networks are {', '.join(NETWORKS)}")
    dataset, made = Dataset.open(options.data), rows.read(options.out) if options.out.exists() else []
    parts = {
        "size": (dataset, SEEDS),
        "way": (part_of(dataset, TRAINING, VALIDATION), SEEDS[:1]),
        "speed": (part_of(dataset, *FEW), SEEDS[:2]),
    }
    sizes = [(name, size, "head") for name in files for size in NETWORKS[name][1]]
    ways = [(name, SIDE, way) for name in files if SIDE in NETWORKS[name][1] for way in WAYS]
    asked = {"size": sizes, "way": ways, "speed": [*sizes, *(each for each in ways if each[2] != "head")]}
    chosen = [(part, *each) for part in asked if options.only in (None, part) for each in asked[part]]
    for part, name, side, way in chosen:
        key = {"bench": "pretrained", "part": part, "network": name, "side": side, "way": way}
        if any(key.items() <= row.items() for row in made):
            continue
        note(f"{name}, {side} pixels, {way}")
        settings = {"size": {}, "way": WAYS[way][2], "speed": {"epochs": 1}}[part]
        measured = trained(name, files[name], side, way, *parts[part], settings, options)
        row = {**key, **measured, "environment": environment()}
        rows.append(row, options.out)
        made.append(row)
    show(made)
    if sizes := [row for row in made if row["part"] == "size"]:
        draw(sizes, options.out.with_suffix(".png"))


def part_of(dataset: Dataset, training: int, validation: int) -> Dataset:
    """Return a dataset of some images of a dataset's splits, as many of each class."""
    labels = dataset.labels("train")
    assert labels is not None  # the train part always has labels

    def some(split: str, count: int) -> tuple[Any, Any]:
        ids = dataset.ids(split)
        each = count // len(dataset.classes)
        chosen = np.sort(np.concatenate([ids[labels[ids] == n][:each] for n in range(len(dataset.classes))]))
        return dataset.images("train")[chosen], labels[chosen]

    return Dataset.from_arrays(*some("training", training), dataset.classes, validation=some("validation", validation))


def trained(
    name: str, file: Path, side: int, way: str, dataset: Dataset, seeds: tuple[int, ...], settings: dict[str, Any],
    options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train the runs of a row, and return what was measured. settings: more keywords of train_run."""
    tune, pretrained, _ = WAYS[way]
    summaries, started = [], time.perf_counter()
    for seed in seeds:
        summary = train_run(
            data=dataset, out=options.runs, experiment=4, model=f"bench/lib/backbones.py:{name}", seed=seed, tune=tune,
            recipe=f"{NETWORKS[name][0]}{side}-{side}", amp=options.amp, device="cpu",
            weights=str(file) if pretrained else "none", compile="none", say=note, **settings,
        )  # fmt: skip
        summaries.append(summary)
    images = len(dataset.ids("training")) + len(dataset.ids("validation"))
    features = summaries[-1].get("features_seconds")
    return {
        "weights": read_weights(file).identity if pretrained else "none",
        "images": {split: len(dataset.ids(split)) for split in ("training", "validation")},
        "dtype": options.amp, "threads": torch.get_num_threads(), "seeds": list(seeds), "settings": settings,
        "val_accuracy": [summary["val_accuracy"] for summary in summaries],
        "epochs": [summary["epochs"] for summary in summaries],
        "seconds": round(time.perf_counter() - started, 1),
        "images_per_s": round(images / features, 1) if features else summaries[-1].get("images_per_s"),
    }  # fmt: skip


def show(made: list[dict[str, Any]]) -> None:
    """Print the rows."""
    table = Table("network", "pixels", "way", "accuracy, %", "epochs", "images/s", "seconds")
    for row in made:
        table.add_row(
            row["network"], str(row["side"]), row["way"], accuracy(row), ", ".join(map(str, row["epochs"])),
            str(row["images_per_s"]), f"{row['seconds']:.0f}",
        )  # fmt: skip
    Console().print(table)


def draw(measured: list[dict[str, Any]], path: Path) -> None:
    """Draw the accuracy of heads by the size of the images, with 95 % intervals over seeds."""
    figure, (axes,) = axes_grid(6, 4, 1, 1)
    for number, name in enumerate(dict.fromkeys(row["network"] for row in measured)):
        found = sorted((row["side"], of_mean(row["val_accuracy"])) for row in measured if row["network"] == name)
        sides, over = zip(*found, strict=True)
        halves = [100 * (each.high - each.mean) for each in over if each.high is not None]
        axes.errorbar(sides, [100 * each.mean for each in over], halves, color=colour(number), marker="o", capsize=3,
                      label=name)  # fmt: skip
    axes.set(xlabel="side of the enlarged image, pixels", ylabel="validation accuracy of the last layer, %")
    axes.set_xticks(sorted({row["side"] for row in measured}))
    axes.legend(frameon=False)
    plain_axes(axes)
    write_figure(figure, path)


if __name__ == "__main__":
    main()
