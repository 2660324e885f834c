"""Which datasets have test images that can judge runs."""

import numpy as np
import pytest
from support.kept import kept

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.report.testable import require_test_part

IMAGES, LABELS = np.zeros((10, 32, 32, 3), np.uint8), np.arange(10)


def dataset(value=0, **more):
    return Dataset.from_arrays(IMAGES + np.uint8(value), LABELS, 10, name="ten images", **more)


def test_a_labelled_test_part_of_the_runs_dataset_is_one(tmp_path):
    tested = dataset(test=(IMAGES, LABELS))
    require_test_part(tested, tmp_path)  # no run: that is refused elsewhere
    kept(tested, tmp_path)
    kept(dataset(value=1), tmp_path, seed=1)
    require_test_part(tested, tmp_path)  # of one run


def test_a_dataset_without_one_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"name the dataset of the runs with --data$"):
        require_test_part(None, tmp_path)
    with pytest.raises(UsageError, match=r"has no test images, as ten images had none; leave out --test$"):
        require_test_part(dataset(), tmp_path)
    tested = dataset(test=(IMAGES, LABELS))
    kept(dataset(value=1), tmp_path, name="other images")
    with pytest.raises(UsageError, match=r"trained on other images, \w{12}; name their dataset with --data$"):
        require_test_part(tested, tmp_path)
    monkeypatch.setattr(Dataset, "labels", lambda self, part: None)
    with pytest.raises(UsageError, match=r"no labels of its 10 test images, .* with fastcifar predict$"):
        require_test_part(tested, tmp_path)
