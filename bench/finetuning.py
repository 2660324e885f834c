"""Time an epoch of fine-tuning a pretrained network at its own image size: fastcifar against a plain PyTorch loop.

    python bench/finetuning.py --data data/cifar10

Both loops train every weight of MobileNetV3-S at 224 x 224 pixels on the same 2,000 images in this run, each in its own
process, in turns. The weights are random, which does not change the cost of a step. Without --data, the images are
synthetic. A second measurement shows what cached features save: heads of three seeds train on features that are
computed once, compared with the forward passes that the cache replaces.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn

from bench.lib import rows
from bench.lib.apart import Apart, in_turns
from bench.rivals.plain import write_pngs
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.runs.plan import headline_runs
from fastcifar.system import machine
from fastcifar.system.devices import device_of
from fastcifar.system.measure import environment
from fastcifar.system.scratch import Scratch
from fastcifar.training.batches import open_pipelines
from fastcifar.training.compile import steps_of
from fastcifar.training.heads import train_heads
from fastcifar.training.learner import Learner
from fastcifar.training.options import Options

MODEL = "mobilenet_v3_small"
SEEDS, EPOCHS = (0, 1, 2), 30  # seeds of the heads, epochs of each


class Ours:
    """fastcifar's training loop, with a precision and a mode of --compile."""

    def __init__(self, dataset: Dataset, batch: int, device: torch.device, precision: str, mode: str) -> None:
        (spec,) = headline_runs(4, dataset, model=MODEL, seeds=[0], precision=precision, **{"batch_size": batch})
        self.learner = Learner.new(spec, len(dataset.classes), device)
        self.training, validation = open_pipelines(spec, dataset, device)
        validation.close()
        self._steps = steps_of(mode, self.learner, self.training)

    def epoch(self) -> None:
        """Train on every image once."""
        self._steps.epoch(self.learner.epoch + 1)
        self.learner.epoch += 1


class Plain:
    """A plain loop: ImageFolder, the weights' own transforms, DataLoader, float32, no tuning."""

    def __init__(self, folder: Path, batch: int, device: torch.device, workers: int) -> None:
        weights = torchvision.models.get_model_weights(MODEL).IMAGENET1K_V1
        images = torchvision.datasets.ImageFolder(str(folder), weights.transforms())
        self.loader = torch.utils.data.DataLoader(
            images, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )
        self.device, self.model = (
            device,
            torchvision.models.get_model(MODEL, num_classes=len(images.classes)).to(device),
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)

    def epoch(self) -> None:
        """Train on every image once."""
        self.model.train()
        for images, labels in self.loader:
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(images.to(self.device)), labels.to(self.device))
            loss.backward()
            self.optimizer.step()
        float(loss.detach())  # wait until the device has finished


def heads(dataset: Dataset, batch: int, device: torch.device, precision: str) -> dict[str, Any]:
    """Return a row: the seconds of training the heads of all seeds with cached features, and the least without."""
    overrides = {"batch_size": batch, "tune": "head", "epochs": EPOCHS}
    specs = headline_runs(4, dataset, model=MODEL, seeds=SEEDS, precision=precision, **overrides, weights="bench")
    first = Learner.new(specs[0], len(dataset.classes), device)
    tensors = {name: value.cpu() for name, value in first.model.backbone.state_dict().items()}  # type: ignore[union-attr]
    with Scratch() as scratch:
        started = time.perf_counter()
        summaries = train_heads(specs, dataset, Path(scratch), device, options=Options(tensors=tensors))
        cached = time.perf_counter() - started
    epochs = sum(summary["epochs"] for summary in summaries)
    passes = summaries[0]["features_seconds"]  # one pass over training and validation images, as in an epoch
    return {"loop": "heads on cached features", "dtype": precision, "seconds": cached, "features_seconds": passes,
            "epochs": epochs, "uncached_seconds": epochs * passes}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--inductor", action="store_true", help="also time torch.compile, which takes minutes more")
    parser.add_argument("--out", type=Path, help="default: finetuning-DEVICE.jsonl in bench/results")
    options = parser.parse_args()
    device = device_of(options.device)
    with Scratch() as scratch:
        folder = Path(scratch)
        # the training split is 4 of 5 images
        dataset = _some(options.data, folder, options.images * 5 // 4)
        images = len(dataset.ids("training"))
        write_pngs(dataset, folder / "png", images)
        modes = ("none", "inductor") if options.inductor else ("none",)
        ways = [(precision, mode) for precision in ("float32", "bfloat16") for mode in modes]
        loops = {
            f"fastcifar, {precision}, {mode}": Apart(Ours, dataset, options.batch, device, precision, mode)
            for precision, mode in ways
        }
        for workers in (0, machine.usable_cores()):
            loops[f"plain, {workers} workers"] = Apart(Plain, folder / "png", options.batch, device, workers)
        timings = in_turns(loops, options.repeats)
        for loop in loops.values():
            loop.close()
        best = min((name for name in loops if name.startswith("fastcifar")), key=lambda name: timings[name].median)
        cached = heads(dataset, options.batch, device, best.split(", ")[1])
    collected = [
        {"loop": name, "seconds": timing.median, **rows.rates(timing, images)} for name, timing in timings.items()
    ]
    shared = {
        "bench": "finetuning", "model": MODEL, "device": str(device), "batch_size": options.batch, "images": images,
        "threads": torch.get_num_threads(), "environment": environment(),
    }  # fmt: skip
    out = options.out or rows.RESULTS / f"finetuning-{device.type}.jsonl"
    rows.write(({**row, **shared} for row in [*collected, cached]), out)
    table = Table("loop", "seconds an epoch", "images/s", "slower than the fastest")
    for row in collected:
        ratio = row["seconds"] / timings[best].median
        table.add_row(row["loop"], f"{row['seconds']:.2f}", f"{row['images_per_s']:,.0f}", f"{ratio:.2f}")
    Console(width=120).print(table)
    saved = cached["uncached_seconds"] / cached["seconds"]
    print(
        f"heads of {len(SEEDS)} seeds, {cached['epochs']} epochs in all: {cached['seconds']:.1f} s with cached "
        f"features, {cached['uncached_seconds']:.0f} s of forward passes alone without: {saved:.0f}x"
    )
    print(f"rows in {out}")


def _some(data: Path | None, folder: Path, count: int) -> Dataset:
    """Return a dataset of ``count`` images, spread evenly over the dataset at ``data``; synthetic images for None."""
    if data is None:
        return convert(f"synthetic:{count}", folder / "dataset")
    whole = Dataset.open(data)
    labels = whole.labels("train")
    assert labels is not None  # the train part always has labels
    for row in np.linspace(0, len(labels) - 1, count, dtype=int):
        into = folder / "some" / whole.classes[labels[row]]
        into.mkdir(parents=True, exist_ok=True)
        pixels = torch.from_numpy(np.array(whole.images("train")[row])).permute(2, 0, 1)
        torchvision.io.write_png(pixels, str(into / f"{row}.png"))
    return convert(str(folder / "some"), folder / "dataset")


if __name__ == "__main__":
    main()
