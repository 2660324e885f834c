"""ImageNet's networks with another last layer: torchvision's numbers, our dice, the preprocessing that was declared."""

import sys
from copy import deepcopy
from functools import cache
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from fastcifar.kernels import cpu, reference
from PIL import Image
from support.images import images
from torch import nn
from torchvision.ops import StochasticDepth

from fastcifar.augment import draw as drawn
from fastcifar.errors import UsageError
from fastcifar.models import pretrained
from fastcifar.models.build import build, count_parameters
from fastcifar.models.dropout import Noise
from fastcifar.models.names import FEATURED, is_pretrained
from fastcifar.models.pretrained import Preprocessing, Pretrained, preprocessing, published
from fastcifar.recipes import recipe


@cache
def built(name, classes=10, seed=0):
    """Where the network is only looked at."""
    return build(name, classes, 0.0, seed)


def noise_images(n=4, side=32):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


# names and networks


def test_names_are_torchvision_s_classification_networks_and_timm_s():
    for name in (*FEATURED, "vit_b_16", "convnext_tiny", "timm:anything"):
        assert is_pretrained(name)
    for name in ("cnn", "ResNet18", "resnet", "deeplabv3_resnet50", "r3d_18", "quantized_resnet18", "raft_small", ""):
        assert not is_pretrained(name)


@pytest.mark.whole
@pytest.mark.parametrize("name", FEATURED)
@pytest.mark.parametrize("classes", [10, 2])
def test_a_network_is_torchvision_s_but_for_its_outputs(name, classes):
    model, torchvisions = built(name, classes), torchvision.models.get_model(name, num_classes=classes)
    assert count_parameters(model) == count_parameters(torchvisions)
    assert model.head.out_features == classes
    assert model.eval()(noise_images(3)).shape == (3, classes)


@pytest.mark.whole
@pytest.mark.parametrize("name", FEATURED)
def test_with_torchvision_s_weights_it_gives_torchvision_s_logits(name):
    torchvisions, model = torchvision.models.get_model(name, num_classes=10).eval(), deepcopy(built(name)).eval()
    last = torchvisions.get_submodule(model.head_place)
    model.head.load_state_dict(last.state_dict())
    tensors = {
        key: value for key, value in torchvisions.state_dict().items() if not key.startswith(f"{model.head_place}.")
    }
    model.backbone.load_state_dict(tensors)
    with torch.inference_mode():
        x = noise_images(2, 64)
        assert torch.equal(model(x), torchvisions(x))
        assert torch.equal(model.head(model.features(x)), model(x))


def test_first_weights_are_a_function_of_the_seed_only():
    torch.manual_seed(1)
    one = build("mobilenet_v3_small", 10, 0.0, 5).state_dict()
    torch.manual_seed(2)
    two = build("mobilenet_v3_small", 10, 0.0, 5).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["head.weight"], built("mobilenet_v3_small").head.weight)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("resnet18", {}),
        ("vit_b_16", {"image_size": 224}),
        ("vit_h_14", {"image_size": 518}),
        ("inception_v3", {"transform_input": True, "aux_logits": False, "init_weights": False}),
        ("googlenet", {"transform_input": True, "aux_logits": False, "init_weights": False}),
    ],
)
def test_a_builder_is_asked_for_what_the_published_weights_are_of(name, asked, monkeypatch):
    seen = {}
    small = nn.Sequential(nn.Linear(2, 2))
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **more: seen.update({name: more}) or small)
    pretrained.build_pretrained(name, 10, 0)
    assert seen == {name: {"weights": None, **asked}}


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_auxiliary_classifiers_are_left_out(name):
    side = 299 if name == "inception_v3" else 32
    assert build(name, 10, 0.0, 0)(noise_images(2, side)).shape == (2, 10)  # in training they would give three


def test_what_cannot_be_built_is_refused():
    with pytest.raises(UsageError, match=r"model 'resnet17' does not exist; there are mlp_s.*resnet18, and timm:NAME"):
        build("resnet17", 10, 0.0, 0)
    with pytest.raises(UsageError, match="stochastic depth of mode 'batch' at 0 cannot be drawn per sample"):
        Pretrained(nn.Sequential(StochasticDepth(0.5, "batch"), nn.Linear(2, 2)), 2)


# dropout and stochastic depth

DROPPING = ("mobilenet_v3_small", "efficientnet_v2_s")


@cache
def in_training(name):
    """A network whose dropouts drop, while its BatchNorms are as in evaluation and each sample is by itself. In
    float64: convolutions of one image round in another way than those of six."""
    model = deepcopy(built(name)).double().train()
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    model(noise_images(32).double())  # or else the statistics of the first weights would leave nothing of an image
    for norm in norms:
        norm.eval()
    return model


@torch.inference_mode()
def logits(model, x, seed=1, epoch=2, ids=None):
    ids = torch.tensor([9, 4, 7, 1, 30, 2])[: len(x)] if ids is None else ids
    return model(x.to(model.head.weight.dtype), Noise.of(seed, epoch, ids))


@pytest.mark.whole
@pytest.mark.parametrize("name", DROPPING)
def test_noise_depends_on_the_sample_not_on_its_batch(name):
    model, x, ids = in_training(name), noise_images(6), torch.tensor([9, 4, 7, 1, 30, 2])
    together = logits(model, x, ids=ids)
    alone = torch.cat([logits(model, x[i : i + 1], ids=ids[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(alone, together, atol=1e-8, rtol=1e-8)
    with torch.inference_mode():
        assert not torch.allclose(together, model(x.double()), rtol=1e-2)


@pytest.mark.whole
@pytest.mark.parametrize("name", DROPPING)
def test_noise_is_a_function_of_seed_epoch_and_ids_alone(name):
    model, x = in_training(name), noise_images(6)
    torch.manual_seed(1)
    state, first = torch.get_rng_state(), logits(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(logits(model, x), first)
    for other in ({"seed": 2}, {"epoch": 3}, {"ids": torch.arange(6)}):
        assert not torch.equal(logits(model, x, **other), first)


@pytest.mark.whole
@pytest.mark.parametrize("name", DROPPING)
def test_in_evaluation_nothing_is_dropped(name):
    model = deepcopy(built(name)).eval()
    assert torch.equal(logits(model, noise_images(2)), model(noise_images(2)).detach())


@pytest.mark.whole
@pytest.mark.parametrize("name", FEATURED)
def test_every_dropout_is_ours_with_torchvision_s_rate_and_a_number_of_its_own(name):
    def dropouts(network, kinds):
        return [module for module in network.modules() if isinstance(module, kinds)]

    ours = dropouts(built(name), pretrained._NoisyDropout)
    theirs = dropouts(torchvision.models.get_model(name), (nn.Dropout, StochasticDepth))
    assert [(layer.p, layer._whole) for layer in ours] == [(one.p, isinstance(one, StochasticDepth)) for one in theirs]
    assert [layer._drop.layer for layer in ours] == list(range(len(theirs)))
    assert not dropouts(built(name), (nn.modules.dropout._DropoutNd, StochasticDepth))
    assert len(theirs) == {"mobilenet_v3_small": 1, "efficientnet_v2_s": 41, "resnet18": 0}[name]


def test_stochastic_depth_keeps_or_loses_a_sample_whole():
    network = nn.Sequential(StochasticDepth(0.4, "row"), nn.Linear(5, 5))
    model, ids = Pretrained(network, 2).train(), torch.arange(4000)
    kept = model.features(torch.ones(4000, 3, 5), Noise.of(0, 1, ids))
    shares = kept.flatten(1).unique(dim=0)
    assert shares[:, 0].tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert (shares == shares[:, :1]).all()
    assert (kept[:, 0, 0] > 0).float().mean() == pytest.approx(0.6, abs=0.03)


def test_one_stochastic_depth_does_not_lose_what_another_does():
    network = nn.Sequential(StochasticDepth(0.4, "row"), StochasticDepth(0.4, "row"), nn.Linear(5, 5))
    kept = Pretrained(network, 2).train().features(torch.ones(4000, 5), Noise.of(0, 1, torch.arange(4000)))
    assert (kept[:, 0] > 0).float().mean() == pytest.approx(0.36, abs=0.03)


def test_a_copy_drops_too():
    """It has noise of its own: that of its own forward pass."""
    model, x = in_training("mobilenet_v3_small"), noise_images(2)
    assert torch.equal(logits(deepcopy(model), x), logits(model, x))


def test_noise_is_forgotten_even_where_a_forward_pass_fails():
    model = deepcopy(in_training("mobilenet_v3_small"))
    x = noise_images(2).double()
    plain = model(x).detach()
    with pytest.raises(RuntimeError):
        logits(model, torch.ones(2, 7, 32, 32))
    assert torch.equal(model(x).detach(), plain)


# preprocessing


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mobilenet_v3_small", Preprocessing("imagenet256")),
        ("efficientnet_v2_s", Preprocessing("imagenet384")),
        ("resnet18", Preprocessing("imagenet256")),
        ("convnext_tiny", Preprocessing("imagenet236-224")),
        ("mnasnet1_3", Preprocessing("imagenet232-224")),
        ("efficientnet_v2_m", Preprocessing("imagenet480-480")),
        ("efficientnet_b0", Preprocessing("imagenet", (256, 224, "bicubic"))),
        ("inception_v3", Preprocessing("imagenet", (342, 299, "bilinear"))),  # the crop is off the centre by half
        ("efficientnet_v2_l", Preprocessing("half", (480, 480, "bicubic"))),
    ],
)
def test_preprocessing_is_what_the_weights_declare(name, wanted):
    assert preprocessing(name) == wanted


def test_every_network_of_torchvision_s_has_a_recipe():
    for name in torchvision.models.list_models(module=torchvision.models):
        made, asked = preprocessing(name), published(name).transforms()
        spec = recipe(made.recipe)
        assert (spec.mean, spec.std) == (tuple(asked.mean), tuple(asked.std))
        resize, crop = made.enlarge[:2] if made.enlarge else spec.size
        assert ([resize], [crop]) == (asked.resize_size, asked.crop_size)
        assert not spec.random


def test_other_normalisations_are_refused():
    with pytest.raises(UsageError, match=r"the weights of 'a' want mean \[0.1\] and std \[0.2\], which no recipe has"):
        pretrained._as_recipe("a", 256, 224, "bilinear", [0.1], [0.2])


# the pixels, point by point: ours against what the weights' own transforms make of the same images

RESIZED = 1.2e-5  # normalised; torchvision takes its weights from float32 coordinates of up to 384
EXACT = 4e-6  # from torchvision's in float64: a handful of float32 operations
KERNELS = ("reference", "cpu", "gpu")


def ours(kernel, name, x):
    spec = recipe(preprocessing(name).recipe)
    draws = drawn(spec, 0, 0, np.arange(len(x)))
    if kernel == "gpu":
        pytest.importorskip("triton", reason="Triton is not installed")
        from fastcifar.kernels import gpu

        if not gpu.INTERPRETED:
            return gpu.apply(x.cuda(), draws, spec).cpu()
        return gpu.apply(x, draws, spec)
    return {"reference": reference, "cpu": cpu}[kernel].apply(x, draws, spec)


def apart(kernel, name, transformed, count):
    """The largest difference, by channel, in units of the normalised pixel."""
    x = images(count)
    return (ours(kernel, name, x) - transformed(published(name).transforms(), x)).abs().amax((0, 2, 3))


@pytest.mark.whole
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", FEATURED)
class TestPixels:
    """Of images that were float, bytes or PIL's: torchvision rounds the latter two to whole levels on its way."""

    def count(self, kernel):
        return 2 if kernel == "gpu" else 12

    def level(self, name):
        return 1 / 255 / torch.tensor(recipe(preprocessing(name).recipe).std)

    def test_float(self, name, kernel):
        found = apart(kernel, name, lambda to, x: to(x.permute(0, 3, 1, 2) / 255), self.count(kernel))
        assert found.max() <= RESIZED

    def test_float64(self, name, kernel):
        def exact(to, x):
            x = torchvision.transforms.functional.resize(
                x.permute(0, 3, 1, 2).double() / 255, to.resize_size, to.interpolation, antialias=to.antialias
            )
            x = torchvision.transforms.functional.center_crop(x, to.crop_size)
            return torchvision.transforms.functional.normalize(x, to.mean, to.std)

        assert apart(kernel, name, exact, self.count(kernel)).max() <= EXACT

    def test_bytes(self, name, kernel):
        found = apart(kernel, name, lambda to, x: to(x.permute(0, 3, 1, 2).contiguous()), self.count(kernel))
        assert (found <= 0.5 * self.level(name) + RESIZED).all()
        assert (found > 0.4 * self.level(name)).all()  # it does round

    def test_pil(self, name, kernel):
        def transformed(to, x):
            return torch.stack([to(Image.fromarray(image.numpy())) for image in x])

        found = apart(kernel, name, transformed, self.count(kernel))
        assert (found <= self.level(name) + RESIZED).all()


@pytest.mark.parametrize("name", ["efficientnet_b0", "inception_v3", "swin_t"])
def test_what_the_network_enlarges_is_what_the_weights_want(name, monkeypatch):
    x, to = images(6), published(name).transforms()
    model = Pretrained(nn.Sequential(nn.Identity(), nn.Linear(2, 2)), 2, preprocessing(name).enlarge)
    got = model.features(ours("cpu", name, x))
    torch.testing.assert_close(got, to(x.permute(0, 3, 1, 2) / 255), atol=RESIZED, rtol=0)
    reduced = model.features(ours("cpu", name, x).bfloat16())
    assert reduced.dtype == torch.bfloat16
    torch.testing.assert_close(reduced.float(), got, atol=0.02, rtol=0.01)


def test_a_network_enlarges_within_its_forward_pass():
    model = built("efficientnet_b0").eval()
    with torch.inference_mode():
        x = noise_images(1)
        enlarged = torchvision.transforms.functional.resize(
            x, [256], torchvision.transforms.InterpolationMode.BICUBIC, antialias=True
        )
        by_hand = model.head(model.backbone(torchvision.transforms.functional.center_crop(enlarged, [224])))
        torch.testing.assert_close(model(x), by_hand)


def test_images_that_a_recipe_has_enlarged_are_not_enlarged_again():
    model = built("efficientnet_b0").eval()
    with torch.inference_mode():
        x = noise_images(1, 96)
        torch.testing.assert_close(model(x), model.head(model.backbone(x)), rtol=0, atol=0)


# timm's


@pytest.fixture
def timm(monkeypatch):
    """A timm that has one network."""
    fake = ModuleType("timm")
    fake.__spec__, fake.__version__ = ModuleSpec("timm", None), "1.2.3"
    declared = {"input_size": (3, 224, 224), "crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.5,) * 3}
    configurations = {"tiny": SimpleNamespace(**declared, std=(0.5,) * 3)}

    def get_pretrained_cfg(name):
        if name.endswith(".wrong"):
            raise RuntimeError("Invalid pretrained tag (wrong) for tiny.")
        return configurations.get(name)

    def create_model(name, pretrained):
        if pretrained:
            raise OSError("no way to huggingface.co")
        return nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Dropout(0.5), nn.Linear(4, 1000))  # fmt: skip

    fake.get_pretrained_cfg, fake.create_model = get_pretrained_cfg, create_model
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


def test_a_network_of_timm_s(timm):
    assert preprocessing("timm:tiny") == Preprocessing("half", (248, 224, "bicubic"))  # int(224 / 0.9)
    model = build("timm:tiny", 10, 0.0, 3)
    assert (model.head_place, model.head.in_features, model.head.out_features) == ("5", 4, 10)
    torch.manual_seed(0)
    first = logits(model, noise_images(2))
    torch.manual_seed(1)
    assert torch.equal(logits(model, noise_images(2)), first)
    assert model.features(noise_images(2)).shape == (2, 4)


def test_timm_s_own_enlargement_where_our_kernels_do_it(timm):
    declared = timm.get_pretrained_cfg("tiny")
    declared.interpolation, declared.crop_pct = "bilinear", 0.875
    assert preprocessing("timm:tiny") == Preprocessing("half256-224")
    declared.mean, declared.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert preprocessing("timm:tiny") == Preprocessing("imagenet256")


def test_what_timm_does_not_know_is_refused(timm):
    for attempt in (preprocessing, lambda name: build(name, 10, 0.0, 0)):
        with pytest.raises(UsageError, match=r"model 'timm:no' does not exist in timm 1.2.3; timm.list_models\(\) has"):
            attempt("timm:no")
        with pytest.raises(UsageError, match=r"model 'timm:tiny.wrong': Invalid pretrained tag"):
            attempt("timm:tiny.wrong")


def test_without_timm_its_networks_are_refused_with_the_cure(monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    for attempt in (preprocessing, lambda name: build(name, 10, 0.0, 0)):
        with pytest.raises(UsageError, match=r"models called timm:NAME need timm: pip install -e '.\[timm\]'"):
            attempt("timm:tiny")
