"""The networks: their sizes as the report gives them, and what holds for all of them."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from support.networks import built, images
from torch import nn

from fastcifar.errors import UsageError
from fastcifar.models.build import build, count_parameters, images_at_once
from fastcifar.models.dropout import Dropout, Noise
from fastcifar.models.names import MODELS, MOST_IMAGES
from fastcifar.runs.spec import RunSpec
from fastcifar.training.learner import Learner


def linear(a, b):
    return a * b + b


def convolution(a, b):
    return 9 * a * b + b


def chain(*widths):
    return sum(linear(a, b) for a, b in pairwise(widths))


def encoder_layer(dim, width):
    attention = linear(dim, 3 * dim) + linear(dim, dim)
    return attention + linear(dim, width) + linear(width, dim) + 2 * 2 * dim


PARAMETERS = {
    "mlp_s": chain(3072, 1500, 500, 100, 10),
    "mlp_l": chain(3072, 2048, 1024, 512, 256, 128, 64, 32, 16, 10),
    "cnn": convolution(3, 32) + convolution(32, 64) + convolution(64, 128) + chain(512, 512, 40, 10),
    "vit": linear(4 * 4 * 3, 30) + 30 + 65 * 30 + 6 * encoder_layer(30, 120) + 2 * 30 + linear(30, 10),
    "vit_as_run": 2 * 48 + linear(48, 30) + 2 * 30 + 30 + 65 * 30 + encoder_layer(30, 2048) + linear(30, 10),
}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_report(name):
    model = built(name, 10, 0.0, 0)
    assert count_parameters(model) == PARAMETERS[name] == sum(p.numel() for p in model.parameters())


def test_parameters_by_hand():
    assert PARAMETERS["cnn"] == 896 + 18_496 + 73_856 + 262_656 + 20_520 + 410
    assert PARAMETERS["mlp_s"] == 4_609_500 + 750_500 + 50_100 + 1_010


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [10, 2])
def test_one_output_a_class(name, classes):
    model = built(name, classes, 0.5, 0)
    for n in (1, 3):
        noise = Noise.of(0, 1, torch.arange(n))
        assert model(images(n)).shape == model(images(n), noise).shape == (n, classes)


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_changes_nothing(name):
    model, x = deepcopy(built(name, 10, 0.0, 0)), images()
    expected = model(x)
    got = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_near_float32(name):
    model, x = built(name, 10, 0.5, 0), images()
    noise = Noise.of(3, 1, torch.arange(len(x)))
    with torch.autocast("cpu", torch.bfloat16):
        got = model(x.bfloat16(), noise).float()
    torch.testing.assert_close(got, model(x, noise), atol=0.1 if "vit" in name else 0.02, rtol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name):
    model = deepcopy(built(name, 10, 0.5, 0))
    x = images(32)
    logits = model(x, Noise.of(0, 1, torch.arange(len(x))))
    nn.functional.cross_entropy(logits, torch.arange(len(x)) % 10).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


# the last one is the head's, the channels' or the embedding's; the others are inside the ViTs' layers
DROPOUTS = {"mlp_s": [0.5], "mlp_l": [0.5], "cnn": [0.5], "vit": [0.0] * 24 + [0.5], "vit_as_run": [0.1] * 4 + [0.5]}


@pytest.mark.parametrize("name", MODELS)
def test_dropouts_have_numbers_of_their_own_and_the_rate_asked_for(name):
    layers = [module for module in built(name, 10, 0.5, 0).modules() if isinstance(module, Dropout)]
    assert {layer.layer: layer.p for layer in layers} == dict(enumerate(DROPOUTS[name]))
    assert len(layers) == len(DROPOUTS[name])


@pytest.mark.parametrize("name", MODELS)
def test_noise_depends_on_the_sample_not_on_its_batch(name):
    model, x, ids = built(name, 10, 0.5, 0), images(6), torch.tensor([9, 4, 7, 1, 30, 2])
    together = model(x, Noise.of(1, 2, ids))
    assert not torch.allclose(together, model(x))
    alone = torch.cat([model(x[i : i + 1], Noise.of(1, 2, ids[i : i + 1])) for i in range(len(x))])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_unknown_models_and_dropouts_are_refused():
    with pytest.raises(UsageError, match=r"'resnet' does not exist; there are mlp_s, .*vit_as_run"):
        build("resnet", 10, 0.0, 0)
    with pytest.raises(UsageError, match=r"dropout 0\.5: resnet18 has dropout of its own; leave it at 0"):
        build("resnet18", 10, 0.5, 0)
    for dropout in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match=r"dropout .* is outside \[0, 1\)"):
            build("cnn", 10, dropout, 0)


def test_a_learner_on_cuda_takes_no_more_images_at_once_than_a_product_may_have(monkeypatch):
    told = []
    monkeypatch.setattr("fastcifar.training.learner.images_at_once", lambda model, device: told.append(device) or 77)
    spec = RunSpec(
        experiment=3, protocol="sound", model="vit", batch_size=128, lr=1e-3, l2=0.0, dropout=0.0, recipe="none",
        seed=0, dataset="", precision="float32",
    )  # fmt: skip
    assert Learner.new(spec, 10, torch.device("cpu")).micro_batch == 77
    assert told == [torch.device("cpu")]


def test_only_products_of_an_image_limit_the_images_at_once():
    cuda = torch.device("cuda")
    assert images_at_once(build("vit", 10, 0.0, 0), cuda) == 65_535 // 6
    for name in ("mlp_s", "cnn"):
        assert images_at_once(build(name, 10, 0.0, 0), cuda, 24) == MOST_IMAGES
