"""The report's experiments, each declared once, as data, under three protocols.

``sound`` is the protocol that this project recommends, ``report`` the one that the report describes, and ``as-run``
the one that the program of the report's authors used. They differ in the fields of Protocol and in the experiment
functions below.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any

from fastcifar.augment import Augment
from fastcifar.errors import UsageError, unknown
from fastcifar.recipes import recipe

SEEDS = (0, 1, 2)
PRETRAINED = 4
"""The number of the experiment that fine-tunes pretrained networks; the others train from scratch."""


@dataclass(frozen=True)
class Protocol:
    """The rules for validating and stopping runs and for keeping weights. Epochs count from 1."""

    name: str
    augment_validation: bool = False
    """Whether validation images get the training augmentation, drawn anew every epoch."""
    jitter: bool = True
    """Whether the colour jitter changes images. A jitter without a strength, as in as-run, changes nothing."""
    split_by_seed: bool = False
    """Whether the 4:1 split is redrawn with each run's seed."""
    window_rule: bool = False
    """The stopping rule. Both rules stop at min_epochs at the earliest.

    False: stop when ``window`` epochs in a row brought no new best validation accuracy; keep the best weights.
    True: stop when the oldest of the last ``window`` accuracies is the largest of them; keep the weights of the last
    epoch whose accuracy was the largest of the last ``window``."""
    min_epochs: int = 30
    """The epochs before which no run stops."""
    window: int = 4
    """The epochs that the stopping rule looks at."""
    tune: str = "full"
    """The way to fine-tune pretrained networks: one of models.names.WAYS."""
    batch_mean_loss: bool = False
    """Whether the loss of an epoch is the unweighted mean of its batches' means, not the mean of its samples."""

    def recipe(self, name: str) -> Augment:
        """Return the recipe of a name, without colour jitter if ``jitter`` is False.

        Raises UsageError for a name that does not exist.
        """
        named = recipe(name)
        if self.jitter:
            return named
        return dataclasses.replace(named, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)

    def keeps(self, accuracies: list[float]) -> bool:
        """Return whether to keep the weights of the last epoch. accuracies: one per epoch so far, in [0, 1]."""
        if self.window_rule:
            return accuracies[-1] == max(accuracies[-self.window :])
        return len(accuracies) == 1 or accuracies[-1] > max(accuracies[:-1])

    def kept(self, accuracies: list[float]) -> int | None:
        """Return the last epoch whose weights `keeps` keeps, counted from 1; None without epochs. It takes linear time.

        accuracies: one per epoch, in [0, 1].
        """
        if not self.window_rule:
            return accuracies.index(max(accuracies)) + 1 if accuracies else None
        epochs = range(len(accuracies), 0, -1)
        return next((n for n in epochs if self.keeps(accuracies[max(0, n - self.window) : n])), None)

    def stops(self, accuracies: list[float]) -> bool:
        """Return whether to stop a run with these validation accuracies. The limit on epochs is checked elsewhere."""
        if len(accuracies) < max(self.min_epochs, self.window):
            return False
        recent = accuracies[-self.window :]
        if self.window_rule:
            return recent[0] == max(recent)
        return len(accuracies) > self.window and max(recent) <= max(accuracies[: -self.window])


PROTOCOLS = {
    "sound": Protocol("sound"),
    "report": Protocol("report"),
    "as-run": Protocol(
        "as-run",
        augment_validation=True,
        jitter=False,
        split_by_seed=True,
        window_rule=True,
        min_epochs=32,
        tune="as-run",
        batch_mean_loss=True,
    ),
}


@dataclass(frozen=True)
class Experiment:
    """One experiment under one protocol.

    All keys are fields of runs.RunSpec. fixed: the values that all runs share. grid: the values to combine. headline:
    the combination that the report highlights. by_model: the values that each model needs.
    """

    number: int
    title: str
    fixed: Mapping[str, Any]
    grid: Mapping[str, tuple[Any, ...]]
    headline: Mapping[str, Any]
    by_model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def models(self) -> tuple[str, ...]:
        """The names that --model takes."""
        return tuple(self.grid.get("model", (self.fixed.get("model"),)))

    def configurations(self) -> list[dict[str, Any]]:
        """Return every point of the grid as fields of RunSpec, without seeds."""
        points = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        return [{**self.fixed, **self.by_model.get(point.get("model", ""), {}), **point} for point in points]

    def configuration(self, **chosen: Any) -> dict[str, Any]:
        """Return the headline configuration; the fields in ``chosen`` replace its own."""
        combined = {**self.fixed, **self.headline, **chosen}
        return {**self.by_model.get(combined["model"], {}), **combined}


def experiment1(protocol: str) -> Experiment:
    """Return experiment 1: multi-layer perceptrons of two sizes on flattened images.

    Expected (report): MLP S about 40 % validation accuracy, MLP L no progress (10 %).
    Measured (sound, bfloat16): MLP S, seed 0, 39.8 % after 30 epochs of 5 s on one core of a server CPU.
    """
    dropout = 0.5 if protocol == "as-run" else 0.1
    sizes = ("mlp_s",) if protocol == "as-run" else ("mlp_s", "mlp_l")
    return Experiment(
        1,
        "MLP by size",
        fixed=MappingProxyType({"batch_size": 128, "lr": 1e-3, "l2": 0.01, "dropout": dropout, "recipe": "none"}),
        grid=MappingProxyType({"model": sizes}),
        headline=MappingProxyType({"model": "mlp_s"}),
    )


CNN_GRID = MappingProxyType(
    {
        "batch_size": (64, 128),
        "lr": (1e-2, 1e-3, 1e-4),
        "l2": (0.0, 0.01),
        "dropout": (0.0, 0.5),
        "recipe": ("none", "basic", "erasing"),
    }
)


def experiment2(protocol: str) -> Experiment:
    """Return experiment 2: a CNN by batch size, learning rate, L2, dropout and augmentation, 72 configurations.

    Expected (report) at batch 128, lr 1e-3: about 63 % plain, 67 % with dropout 0.5, 71 % with dropout and
    basic augmentation, 65 % with erasing added to both (its validation images were erased too: see ``as-run``).
    Measured (sound, bfloat16, dropout 0.5, three seeds): 67.5 ± 0.5 % plain, 71.7 ± 0.4 % basic, 70.4 ± 0.9 % erasing,
    32 to 67 epochs of 5 s on one core of a server CPU; the rows are in bench/results/accuracy-cpu.jsonl.
    """
    return Experiment(
        2,
        "CNN by batch, learning rate, L2, dropout, augmentation",
        fixed=MappingProxyType({"model": "cnn"}),
        grid=CNN_GRID,
        headline=MappingProxyType({"batch_size": 128, "lr": 1e-3, "l2": 0.0, "dropout": 0.5, "recipe": "basic"}),
    )


def experiment3(protocol: str) -> Experiment:
    """Return experiment 3: a small vision transformer by batch size and learning rate.

    The protocol as-run uses the whole grid of experiment 2, with dropout on the embedding.

    Expected (report): about 51 % whatever the configuration.
    Measured (sound, bfloat16, seed 0): an epoch takes 42 s on one core of a server CPU; 46.9 % after two.
    """
    as_run = protocol == "as-run"
    plain = {"l2": 0.0, "dropout": 0.0, "recipe": "none"}
    return Experiment(
        3,
        "ViT by batch and learning rate",
        fixed=MappingProxyType({"model": "vit_as_run"} if as_run else {"model": "vit", **plain}),
        grid=CNN_GRID if as_run else MappingProxyType({key: CNN_GRID[key] for key in ("batch_size", "lr")}),
        headline=MappingProxyType({"batch_size": 128, "lr": 1e-3, **plain}),
    )


def experiment4(protocol: str) -> Experiment:
    """Return experiment 4: networks pretrained on ImageNet, each with its own preprocessing.

    --model also takes the name of any other network of torchvision or timm, and one's own network.

    Expected (report): MobileNetV3-S about 87 %, ResNet18 77 %, EfficientNetV2-S 73 %.
    """
    recipes = {"mobilenet_v3_small": "imagenet256", "efficientnet_v2_s": "imagenet384", "resnet18": "imagenet256"}
    return Experiment(
        PRETRAINED,
        "pretrained networks",
        fixed=MappingProxyType(
            {"batch_size": 128, "lr": 1e-4, "l2": 0.0, "dropout": 0.0, "tune": PROTOCOLS[protocol].tune}
        ),
        grid=MappingProxyType({"model": tuple(recipes)}),
        headline=MappingProxyType({"model": "mobilenet_v3_small"}),
        by_model=MappingProxyType({model: {"recipe": recipe} for model, recipe in recipes.items()}),
    )


EXPERIMENTS = {1: experiment1, 2: experiment2, 3: experiment3, PRETRAINED: experiment4}


def experiment(number: int, protocol: str) -> Experiment:
    """Return an experiment under a protocol. Raises UsageError for an unknown number or protocol."""
    if number not in EXPERIMENTS:
        raise UsageError(f"experiment {number} does not exist; there are {', '.join(map(str, EXPERIMENTS))}")
    if protocol not in PROTOCOLS:
        raise unknown("protocol", protocol, PROTOCOLS)
    return EXPERIMENTS[number](protocol)
