"""A dataset with Kaggle's ids."""

import pytest
from support.builders import csv_of, kaggle, packed, png

from fastcifar.data.convert import convert


@pytest.fixture(scope="session")
def kaggles(tmp_path_factory):
    """Twelve training images, and test images of the ids 3, 10 and 200, which are in the archive in another order."""
    folder = tmp_path_factory.mktemp("kaggle")
    tree = kaggle(train=12, test=0)
    tree |= {f"test/{number}.png": png(number) for number in (200, 3, 10)}
    tree["sampleSubmission.csv"] = csv_of([(number, "cat") for number in (10, 200, 3)])
    return convert(str(packed(tree, "folder", folder / "files")), folder / "dataset")
