"""Which runs may judge the report's claims: those that ended as their protocol says, on the images of CIFAR-10."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.data.manifest import histogram_of, mean_std
from fastcifar.experiments import PROTOCOLS
from fastcifar.report.collection import Collection, Run
from fastcifar.runs.outcome import accuracies, diverged
from fastcifar.runs.schemas import Trained
from fastcifar.system.schema import read_object

DATASET = "dataset.json"
"""The file beside the folders of experiments that describes the dataset of runs of before version 0.3."""
EPOCHS = 100
"""The most epochs of a run in every protocol."""
CLASSES, IMAGES = 10, 50_000
MEAN, STD = (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)
"""The mean and standard deviation of each channel of CIFAR-10's training images, in [0, 1], computed from the original
archive (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009)."""
NEAR, EQUAL = 0.01, 1e-6
"""The largest distances from MEAN and STD of a re-encoding of CIFAR-10, and of the original."""


@dataclass(frozen=True)
class Evidence:
    """The runs that may judge, and why others may not."""

    counting: Collection
    aside: Mapping[str, str]
    """Why a run does not count, by run-id."""
    reencoded: bool
    """Whether some of the images are a re-encoding of CIFAR-10's."""


def evidence_of(collection: Collection, known: Mapping[str, Mapping[str, Any]]) -> Evidence:
    """Return the runs of a collection that may judge.

    known: facts about datasets by their sha256, for runs of before version 0.3, whose run.json does not have them.
    """
    aside, reencoded = dict[str, str](), False
    configurations = []
    for each in collection.configurations:
        kept = {}
        for seed, run in each.runs.items():
            about = run.begun.get("dataset", {})
            facts = {**known.get(str(about.get("sha256")), {}), **about}
            if why := cut(run) or other_images(facts):
                aside[run.run_id] = why
                continue
            kept[seed] = run
            reencoded |= not _near(facts, EQUAL)
        if kept:
            configurations.append(replace(each, runs=kept))
    return Evidence(replace(collection, configurations=configurations), aside, reencoded)


def known_datasets(runs: Path, dataset: Dataset | None) -> dict[str, dict[str, Any]]:
    """Return facts about datasets by their sha256: those of a dataset, and those of the file DATASET beside the runs.

    Raises FastcifarError for a damaged file.
    """
    known = {} if dataset is None else {dataset.sha256: dataset.facts()}
    if (file := runs / DATASET).is_file():
        stated = read_object(file, Trained, "restore the file, or remove it")
        known[stated["sha256"]] = stated
    return known


def cut(run: Run) -> str | None:
    """Return why a run was not ended by its protocol; None where it was."""
    lines = run.lines
    if diverged(lines) or len(lines) >= EPOCHS or PROTOCOLS[run.row["protocol"]].stops(accuracies(lines)):
        return None
    return f"cut after {len(lines)} epochs"


def other_images(facts: Mapping[str, Any]) -> str | None:
    """Return why a dataset's images are not CIFAR-10's, as far as its facts say; None where they are.

    facts: classes, images_of_classes (of the train images), mean and std.
    """
    if not {"images_of_classes", "mean", "std"} <= facts.keys():
        return "of a dataset that its run.json does not describe"
    if len(facts.get("classes", ())) != CLASSES or list(facts["images_of_classes"]) != [IMAGES // CLASSES] * CLASSES:
        return f"of other images than CIFAR-10's {IMAGES:,} in {CLASSES} classes"
    if not _near(facts, NEAR):
        return f"of images whose mean and standard deviation are not within {NEAR} of CIFAR-10's"
    return None


def unlike_test_images(dataset: Dataset) -> str | None:
    """Return why a dataset's test images are not like CIFAR-10's, by their mean and standard deviation; None where they
    are.
    """
    mean, std = zip(*map(mean_std, histogram_of(dataset.images("test"))), strict=True)
    if _near({"mean": mean, "std": std}, NEAR):
        return None
    return f"their mean and standard deviation are not within {NEAR} of those of CIFAR-10's training images"


def _near(facts: Mapping[str, Any], bound: float) -> bool:
    pairs = [*zip(facts["mean"], MEAN, strict=False), *zip(facts["std"], STD, strict=False)]
    return all(abs(found - wanted) <= bound for found, wanted in pairs)
