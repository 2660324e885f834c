"""The first weights of a seed: the same everywhere, and of torch's distributions."""

import time
from math import sqrt

import pytest
import torch
from support.networks import built
from torch import nn

from fastcifar.errors import UsageError
from fastcifar.models.build import build
from fastcifar.models.names import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_first_weights_are_a_function_of_the_seed_only(name):
    torch.manual_seed(1)
    one = built(name, 10, 0.0, 0).state_dict()
    torch.manual_seed(2)
    two = build(name, 10, 0.5, 0).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    other = build(name, 10, 0.0, 1).state_dict()
    assert not any(torch.equal(one[key], other[key]) for key in one if "norm" not in key)


def test_first_weights_of_a_tensor_do_not_depend_on_another_s_size():
    two, ten = (build("cnn", classes, 0.0, 0).state_dict() for classes in (2, 10))
    assert torch.equal(two["head.weight"], ten["head.weight"][:2])
    assert torch.equal(two["head.bias"], ten["head.bias"][:2])


@pytest.mark.parametrize("name", MODELS)
def test_first_weights_have_torch_s_distributions(name):
    model = built(name, 10, 0.0, 0)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
        elif isinstance(module, nn.Linear | nn.Conv2d):
            fan_in = module.weight.numel() // module.weight.shape[0]
            for values in (module.weight.detach(), module.bias.detach()):
                within = values * sqrt(fan_in)
                assert within.abs().max() <= 1
                assert within.mean().abs() < 5 / sqrt(3 * values.numel())  # five standard errors
                if values.numel() > 1000:
                    assert within.abs().max() > 0.99
                    assert within.std() == pytest.approx(1 / sqrt(3), rel=0.05)


@pytest.mark.parametrize("name", ["vit", "vit_as_run"])
def test_embeddings_are_normal_with_a_standard_deviation_of_two_hundredths(name):
    model = build(name, 10, 0.0, 0)
    values = torch.cat([model.class_token[None], model.positions]).detach()
    assert values.std() == pytest.approx(0.02, rel=0.08)
    assert values.mean().abs() < 5 * 0.02 / sqrt(values.numel())
    assert 0.05 < values.abs().max() < 0.12  # 1,980 values: some beyond 2.5 deviations, none beyond 6


GOLDEN = {
    "convolution": [0.11421190202236176, -0.0468522310256958, -0.0518643856048584],
    "bias": [-0.10000714659690857, -0.02389146387577057, 0.07415267825126648],
    "positions": [0.023915857076644897, -0.008069944567978382, 0.017312467098236084],
    "largest seed": [0.02236972749233246, 0.014220833778381348, 0.15194641053676605],
}


def test_first_weights_are_pinned():
    """Seed 0 means these weights for ever: a change here changes every result."""
    cnn, vit = build("cnn", 10, 0.0, 0), build("vit", 10, 0.0, 0)
    assert cnn.convolutions[0].weight.flatten()[:3].tolist() == GOLDEN["convolution"]
    assert cnn.head.bias[:3].tolist() == GOLDEN["bias"]
    assert vit.positions[0, :3].tolist() == pytest.approx(GOLDEN["positions"], rel=1e-6)  # by the machine's cosine
    assert build("cnn", 10, 0.0, (1 << 64) - 1).head.bias[:3].tolist() == GOLDEN["largest seed"]


def test_initial_weights_take_little_time(monkeypatch):
    """CPU seconds of this process, the least of three: 5.4 million numbers in 0.07 s, by numpy's Philox in 0.45 s."""
    build("mlp_s", 10, 0.0, 0)  # what is compiled is compiled
    seconds = []
    for seed in range(3):
        before = time.process_time()
        build("mlp_s", 10, 0.0, seed)
        seconds.append(time.process_time() - before)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(UsageError, match=f"seed {seed} is outside"):
        build("cnn", 10, 0.0, seed)
