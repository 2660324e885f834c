"""Predictions as Kaggle's CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastcifar.data.dataset import Dataset
from fastcifar.data.sources.source import I64
from fastcifar.system.atomic import whole


def kaggle_ids(dataset: Dataset, split: str, rows: I64) -> I64:
    """Return Kaggle's ids of the rows of a split, (N,) int64. Without ids in the dataset, rows are counted from 1."""
    ids = dataset.test_ids() if split == "test" else None
    return rows + 1 if ids is None else ids[rows]


def write_submission(path: Path, ids: I64, labels: NDArray[np.integer], classes: Sequence[str]) -> None:
    """Write Kaggle's CSV, completely or not at all: the header id,label, then the ids, ascending, with their classes.

    ids: (N,). labels: (N,) in [0, len(classes)). A byte of a class name that is not UTF-8, as in the name of a folder,
    is written as a text such as \\udce9, so that the file is UTF-8 and different names stay different.
    """
    order = np.argsort(ids, kind="stable")
    with whole(path) as temporary, open(temporary, "w", -1, "utf-8", "backslashreplace", "") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("id", "label"))
        lines.writerows((int(ids[row]), classes[labels[row]]) for row in order)
