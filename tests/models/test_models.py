"""The networks: their sizes as the report gives them, their outputs against torch's own layers, their first weights."""

import time
from copy import deepcopy
from functools import cache
from itertools import pairwise
from math import sqrt

import pytest
import torch
from torch import nn

from fastcifar.errors import UsageError
from fastcifar.models import MODELS, MOST_IMAGES, build, count_parameters, images_at_once
from fastcifar.models.dropout import Dropout, Noise
from fastcifar.runs.spec import RunSpec
from fastcifar.training.learner import Learner

built = cache(build)  # where the model is only looked at


def images(n=4, seed=0):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


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


def with_weights_of(model, other):
    """``other`` with the parameters of ``model``, which must come in the same order and shapes."""
    with torch.no_grad():
        for mine, its in zip(model.parameters(), other.parameters(), strict=True):
            assert mine.shape == its.shape
            its.copy_(mine)
    return other


@pytest.mark.parametrize(
    ("name", "widths"),
    [("mlp_s", (1500, 500, 100)), ("mlp_l", (2048, 1024, 512, 256, 128, 64, 32, 16))],
)
def test_mlp_against_torch(name, widths):
    layers, last = [], 3072
    for width in widths:
        layers += [nn.Linear(last, width), nn.ReLU()]
        last = width
    model = built(name, 10, 0.5, 0)
    torchs = with_weights_of(model, nn.Sequential(nn.Flatten(), *layers, nn.Linear(last, 10)))
    torch.testing.assert_close(model(images()), torchs(images()))


def test_cnn_against_torch():
    model = build("cnn", 10, 0.5, 1)
    torchs = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 128, 3, 2, 1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 40), nn.ReLU(),
        nn.Linear(40, 10),
    )  # fmt: skip
    torch.testing.assert_close(model(images()), with_weights_of(model, torchs)(images()))


class TorchViT(nn.Module):
    """Of torch's own parts; patches by Unfold, whose columns are channel by channel as well."""

    def __init__(self, model, depth, **layer):
        super().__init__()
        self.of = model
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(30, 6, dropout=0.0, batch_first=True, **layer) for _ in range(depth)
        )
        for mine, its in zip(model.layers, self.layers, strict=True):
            its.self_attn.in_proj_weight.data = mine.queries_keys_values.weight.data
            its.self_attn.in_proj_bias.data = mine.queries_keys_values.bias.data
            its.self_attn.out_proj.load_state_dict(mine.attended.state_dict())
            its.linear1.load_state_dict(mine.widen.state_dict())
            its.linear2.load_state_dict(mine.narrow.state_dict())
            its.norm1.load_state_dict(mine.norm1.state_dict())
            its.norm2.load_state_dict(mine.norm2.state_dict())

    def tokens(self, x):
        patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
        projected = self.of.norm_projected(self.of.project(self.of.norm_pixels(patches)))
        tokens = torch.cat([self.of.class_token.repeat(len(x), 1, 1), projected], 1)
        return tokens + self.of.positions

    def forward(self, x):
        x = self.tokens(x)
        for layer in self.layers:
            x = layer(x)
        return self.of.head(self.of.norm(x)[:, 0])


def shaken(model):
    """Norms that do something too: at first they are 1 and 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def test_vit_against_torch():
    model = shaken(build("vit", 10, 0.0, 1))
    torchs = TorchViT(model, 6, dim_feedforward=120, activation="gelu", norm_first=True)
    assert isinstance(model.norm, nn.LayerNorm)
    assert isinstance(model.norm_pixels, nn.Identity)
    torch.testing.assert_close(model(images()), torchs(images()), atol=1e-4, rtol=1e-4)


def test_vit_as_run_against_torch():
    model = shaken(build("vit_as_run", 10, 0.1, 1))
    torchs = TorchViT(model, 1, dim_feedforward=2048, activation="relu", norm_first=False)
    assert (model.norm_pixels.normalized_shape, model.norm_projected.normalized_shape) == ((48,), (30,))
    assert isinstance(model.norm, nn.Identity)
    torch.testing.assert_close(model(images()), torchs(images()), atol=1e-4, rtol=1e-4)


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


def test_unknown_models_and_dropouts_are_refused():
    with pytest.raises(UsageError, match=r"'resnet' does not exist; there are mlp_s, .*vit_as_run"):
        build("resnet", 10, 0.0, 0)
    with pytest.raises(UsageError, match=r"dropout 0\.5: resnet18 has dropout of its own; leave it at 0"):
        build("resnet18", 10, 0.5, 0)
    for dropout in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match=r"dropout .* is outside \[0, 1\)"):
            build("cnn", 10, dropout, 0)


def test_initial_weights_take_little_time(monkeypatch):
    """CPU seconds of this process, the least of three: 5.4 million numbers in 0.07 s, by numpy's Philox in 0.45 s."""
    build("mlp_s", 10, 0.0, 0)  # what is compiled is compiled
    seconds = []
    for seed in range(3):
        before = time.process_time()
        build("mlp_s", 10, 0.0, seed)
        seconds.append(time.process_time() - before)
    assert min(seconds) < 0.3


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


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(UsageError, match=f"seed {seed} is outside"):
        build("cnn", 10, 0.0, seed)
