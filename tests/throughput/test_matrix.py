"""What is timed: the product of what was asked for."""

from typing import Any

import pytest

from fastcifar.errors import UsageError
from fastcifar.throughput.matrix import Matrix


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"pipelines": ["tfdata"]}, "pipeline 'tfdata'"),
        ({"recipes": ["sharpen"]}, "recipe 'sharpen'"),
        ({"recipes": []}, "nothing to time"),
        ({"models": ["vgg"]}, "network 'vgg'"),
        ({"models": ["cnn"], "recipes": ["imagenet256"]}, "imagenet256"),
        ({"dtypes": ["float64"]}, "dtype 'float64'"),
        ({"threads": 10_000}, "--threads 10000"),
        ({"devices": ["tpu"]}, "tpu"),
    ],
)
def test_what_cannot_be_timed(wrong, named):
    asked: dict[str, Any] = {"pipelines": [], "recipes": ["none"], "batch_sizes": [16], "devices": ["cpu"]}
    with pytest.raises(UsageError, match=named):
        Matrix(**asked | wrong)


def test_the_matrix_is_the_product(synthetic):
    matrix = Matrix(["resident"], ["none", "basic"], [16, 32], ["cpu"], models=["cnn"], threads=1)
    heats = matrix.heats(synthetic)
    assert [(heat[0].recipe, heat[0].batch_size) for heat in heats] == [
        ("none", 16), ("none", 32), ("basic", 16), ("basic", 32)]  # fmt: skip
    assert all([one.pipeline for one in heat] == ["replay", "resident"] for heat in heats)
