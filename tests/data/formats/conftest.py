"""An archive with test images that have no labels."""

import pytest
from support.builders import kaggle, packed


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlabelled")
    return str(packed(kaggle(train=12, test=7), "zip", folder / "it.zip"))
