"""A small dataset directory, and a copy of it to change."""

import shutil
from pathlib import Path

import pytest

from fastcifar.data.convert import convert


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A synthetic dataset of 40 train and 8 test images; not to be changed."""
    return convert("synthetic:40", tmp_path_factory.mktemp("made") / "it", split_seed=3).path


@pytest.fixture
def copy(made, tmp_path) -> Path:
    """One to change."""
    return Path(shutil.copytree(made, tmp_path / "copy"))
