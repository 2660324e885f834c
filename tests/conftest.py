"""Small datasets that many tests share."""

from importlib.util import find_spec

import pytest
import torch
from hypothesis import settings

from fastcifar.convert import convert
from fastcifar.dataset import Dataset

# so small, one thread is the fastest; and a subprocess with OMP_NUM_THREADS=1 then adds in the same order
torch.set_num_threads(1)
# an example that compiles a numba function takes as long as it takes
settings.register_profile("fastcifar", deadline=None)
settings.load_profile("fastcifar")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device; torch sees none")


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """80 training and 20 validation images of noise: nothing can be learnt from them. In every format that is here."""
    libraries = {"ffcv": "ffcv", "dali": "nvidia.dali"}
    formats = [
        name for name, library in libraries.items() if find_spec(library.partition(".")[0]) and find_spec(library)
    ]
    return convert("synthetic:100", tmp_path_factory.mktemp("data") / "synthetic", formats=("raw", *formats))


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """1,200 training and 300 validation images of handwritten digits, learnt in a few epochs."""
    return convert("digits", tmp_path_factory.mktemp("data") / "digits")
