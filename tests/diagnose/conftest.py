"""A sample of the digits, and a diagnosis with it."""

import pytest
from support.diagnosis import ARMS, SEEDS, experiment

from fastcifar.diagnose.batchnorm import diagnose
from fastcifar.diagnose.sample import Sample
from fastcifar.diagnose.suspects import TITLES


@pytest.fixture(scope="session")
def small(digits):
    return Sample(digits, 40, seed=3)


@pytest.fixture(scope="session")
def made(small, digits):
    return diagnose(experiment(small), ARMS, list(TITLES), digits, 40, SEEDS)
