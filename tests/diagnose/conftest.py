"""A sample of the digits, and the evaluations of an experiment with it."""

import pytest
from support.diagnosis import experiment

from fastcifar.diagnose.batchnorm import Sample


@pytest.fixture(scope="session")
def small(digits):
    return Sample(digits, 40, seed=3)


@pytest.fixture(scope="session")
def evaluations(small):
    return list(experiment(small))
