"""How results depend on the protocol and on the images: one configuration under several protocols, and the same kept
weights on clean and on augmented validation images.
"""

from dataclasses import dataclass
from itertools import combinations
from statistics import mean

from fastcifar.experiments import CNN_GRID, PROTOCOLS, Protocol
from fastcifar.report.collection import VARIED, Collection, matched, run_ids
from fastcifar.report.statistics import Interval, mean_spread, of_mean, paired

ERASING = {"experiment": 2, "batch_size": 128, "lr": 1e-3, "l2": 0.0, "dropout": 0.5}
"""The configuration of the report's figures 7 and 8, without its recipe."""


@dataclass(frozen=True)
class Compared:
    """A configuration that has runs under two protocols, and the accuracy that each protocol reports."""

    label: str
    protocols: tuple[str, str]
    accuracies: tuple[float, float]
    """Mean accuracy over the seeds that both protocols have, in [0, 1], for the first and the second protocol."""
    change: Interval
    """The accuracy under the second protocol minus that under the first, over the seeds that both have."""
    runs: tuple[str, ...]


@dataclass(frozen=True)
class TwoImages:
    """The accuracy of a configuration's kept weights on clean and on augmented validation images.

    Each accuracy is a mean and a standard deviation (n - 1; None for one seed) over seeds, in [0, 1].
    """

    recipe: str
    protocol: str
    clean: tuple[float, float | None]
    augmented: tuple[float, float | None]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class RecipeStep:
    """The gain in accuracy from one recipe to another, measured on clean and on augmented validation images."""

    what: str
    protocol: str
    clean: Interval | None
    augmented: Interval | None
    runs: tuple[str, ...]


def definitions() -> list[tuple[str, dict[str, str]]]:
    """Return the differences between the protocols, in words: pairs of a property and its value by protocol."""

    def described(protocol: Protocol) -> dict[str, str]:
        last = protocol.window
        return {
            "validation images": "augmented like training images" if protocol.augment_validation else "clean",
            "colour jitter": "±0.2, hue ±0.1" if protocol.jitter else "changes nothing",
            "split": "redrawn by each seed" if protocol.split_by_seed else "one, the dataset's",
            "stopping": f"from epoch {protocol.min_epochs} on, "
            + (
                f"when the oldest of the last {last} accuracies is their largest"
                if protocol.window_rule
                else f"when {last} epochs bring no new best"
            ),
            "kept weights": f"last with the best of {last} epochs" if protocol.window_rule else "best accuracy",
            "pretrained networks": protocol.tune,
        }

    by_protocol = {name: described(protocol) for name, protocol in PROTOCOLS.items()}
    return [(what, {name: by_protocol[name][what] for name in PROTOCOLS}) for what in by_protocol["sound"]]


def compared(collection: Collection) -> list[Compared]:
    """Compare each configuration that has runs under two protocols, for every two protocols."""
    comparisons = []
    for one, other in combinations(collection.protocols, 2):
        for a in collection.find(protocol=one):
            for b in collection.find(experiment=a.experiment, protocol=other, **{key: a.values[key] for key in VARIED}):
                pairs = [(before, after) for _, _, before, after in matched(a, b)]
                if pairs:
                    change = of_mean([after - before for before, after in pairs])
                    means = mean(before for before, _ in pairs), mean(after for _, after in pairs)
                    comparisons.append(Compared(a.label, (one, other), means, change, run_ids(a, b)))
    return comparisons


def on_two_kinds_of_images(collection: Collection) -> tuple[list[TwoImages], list[RecipeStep]]:
    """Compare the recipes on clean and on augmented images, for the runs that have predictions.

    Returns the accuracies of each recipe under each protocol, and the gain from each recipe to each later one.
    """
    rows, steps = [], []
    for protocol in collection.protocols:
        known = []
        for recipe in map(str, CNN_GRID["recipe"]):
            for each in collection.find(protocol=protocol, recipe=recipe, **ERASING):
                predictions = [run.predictions for run in each.runs.values() if run.predictions is not None]
                if predictions:
                    known.append(each)
                    clean, augmented = ([float(p.right(kind).mean()) for p in predictions] for kind in (False, True))
                    rows.append(TwoImages(recipe, protocol, mean_spread(clean), mean_spread(augmented), run_ids(each)))
        for before, after in combinations(known, 2):
            steps.append(
                RecipeStep(
                    f"{before.values['recipe']} → {after.values['recipe']}",
                    protocol,
                    paired(after, before, "clean"),
                    paired(after, before, "augmented"),
                    run_ids(before, after),
                )
            )
    return rows, steps
