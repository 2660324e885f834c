"""Whether a dataset has test images that can judge runs. It is found out without torch, so that a refusal is quick."""

from pathlib import Path

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.runs.record import read_runs

HASH = 12  # characters that are shown of a dataset's hash


def require_test_part(dataset: Dataset | None, runs: Path) -> None:
    """Raise UsageError unless a dataset has labelled test images, and some run below ``runs`` was trained on it.

    A folder without runs is not refused here. Raises UsageError where ``runs`` is no folder.
    """
    if dataset is None:
        raise UsageError("--test predicts a dataset's test images; name the dataset of the runs with --data")
    if "test" not in dataset.manifest["counts"]:
        raise UsageError(f"{dataset.path} has no test images, as {dataset.name} had none; leave out --test")
    if dataset.labels("test") is None:
        raise UsageError(
            f"{dataset.path} has no labels of its {dataset.manifest['counts']['test']:,} test images, so --test cannot "
            "measure accuracy; leave out --test, or write the file for Kaggle with fastcifar predict"
        )
    trained = [dict(record.begun.get("dataset", {})) for record in read_runs(runs).records]
    if trained and all(about.get("sha256") != dataset.sha256 for about in trained):
        name, sha256 = (str(trained[0].get(key, "unknown")) for key in ("name", "sha256"))
        raise UsageError(
            f"{dataset.path} has the hash {dataset.sha256[:HASH]}, but the runs below {runs} were trained on {name}, "
            f"{sha256[:HASH]}; name their dataset with --data"
        )
