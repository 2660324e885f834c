"""Small datasets that many tests share."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.testing import synthetic_dataset

if not torch.cuda.is_available():  # before any kernel is defined
    os.environ["TRITON_INTERPRET"] = "1"

sys.path.append(str(Path(__file__).parent / "stand_ins"))  # last: what is installed wins
from hypothesis import settings
from support.command import command as command
from support.figures import figures as figures

for size in ("COLUMNS", "LINES"):  # pytest-xdist sets them; without them, the lines of a table stay whole
    os.environ.pop(size, None)
# so small, one thread is the fastest; and a subprocess with OMP_NUM_THREADS=1 then adds in the same order
torch.set_num_threads(1)
# an example that compiles a numba function takes as long as it takes
settings.register_profile("fastcifar", deadline=None)
settings.load_profile("fastcifar")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with the slowest tests first, so that none of them is left to one process at the end."""
    weights = Counter[Path]()
    for item in items:
        slow, whole = (item.get_closest_marker(name) is not None for name in ("slow", "whole"))
        weights[item.path] += 200 if slow else 50 if whole else 1
    items.sort(key=lambda item: (-weights[item.path], item.path))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; torch sees none")


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """80 training and 20 validation images of noise: nothing can be learnt from them. In every format there is."""
    return synthetic_dataset(tmp_path_factory.mktemp("data") / "synthetic")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """1,200 training and 300 validation images of handwritten digits, learnt in a few epochs."""
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's, which is not installed")
    return convert("digits", tmp_path_factory.mktemp("data") / "digits")
