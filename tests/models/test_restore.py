"""Tensors by name into a module, also where it asks for their version; and so for every family of torchvision's."""

from copy import deepcopy

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from torch.nn.functional import cross_entropy

from fastcifar.models.build import build
from fastcifar.models.dropout import Noise
from fastcifar.models.restore import fill

SMALLEST = {  # of each family the network whose step is the cheapest, and a side that it takes
    **dict.fromkeys((
        "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5",
        "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1",
        "swin_v2_t", "vgg11"
    ), 32), "alexnet": 63, "vit_b_32": 224,
}  # fmt: skip


class Versioned(nn.Linear):
    """A layer that takes tensors without a version for those of its first one, whose weights had another sign."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *more):
        if local_metadata.get("version", 1) < 2:
            state_dict[f"{prefix}weight"] = -state_dict[f"{prefix}weight"]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *more)


def small():
    return nn.Sequential(Versioned(3, 2), nn.BatchNorm1d(2), nn.Sequential(Versioned(2, 2)))


def plain(module):
    """What is left of a module's tensors in a file: no versions."""
    return safetensors.torch.load(safetensors.torch.save(module.state_dict()))


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_modules_that_ask_for_a_version_get_their_own():
    source, loaded, target = small(), small(), small()
    loaded.load_state_dict(plain(source))
    assert torch.equal(loaded[2][0].weight, -source[2][0].weight)  # torch alone
    before = {name: value.data_ptr() for name, value in target.state_dict().items()}
    fill(target, plain(source))
    assert equal(target.state_dict(), source.state_dict())
    assert {name: value.data_ptr() for name, value in target.state_dict().items()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("1.running_mean"), r"the tensor '1.running_mean' is missing \(in all 1 missing\)"),
        (lambda t: t.clear(), r"the tensor '0.weight' is missing \(in all 9 missing: 0.weight, 0.bias, .*, \.\.\.\)"),
        (lambda t: t.update(more=torch.ones(1)), r"the tensor 'more' is unknown \(in all 1 unknown\)"),
        (
            lambda t: t.update({"0.bias": torch.ones(3), "1.bias": torch.ones(2, 1)}),
            r"'0.bias' is of another shape, \(3,\) in place of \(2,\) \(in all 2 of another shape: 0.bias, 1.bias\)",
        ),
        (
            lambda t: t.update({"0.weight": torch.ones(2, 3, dtype=torch.int8)}),
            r"the tensor '0.weight' is of another dtype, int8 in place of float32 \(in all 1 of another dtype\)",
        ),
        (
            lambda t: t.update({"1.bias": t["1.bias"].half(), "0.bia": t.pop("0.bias")}),
            r"'0.bias' is missing \(in all 1 missing, 1 unknown: 0.bia, 1 of another dtype: 1.bias\)",
        ),
    ],
)
def test_what_does_not_fit_is_said_and_changes_nothing(change, message):
    module = small()
    tensors, before = plain(small()), deepcopy(module.state_dict())
    change(tensors)
    with pytest.raises(ValueError, match=message):
        fill(module, tensors)
    assert equal(module.state_dict(), before)


def test_other_dtypes_are_converted_where_that_is_asked():
    source, target = small(), small()
    fill(target, {name: value.half() for name, value in plain(source).items()}, convert=True)
    assert torch.equal(target[0].weight, source[0].weight.half().float())
    assert target[1].num_batches_tracked.dtype == torch.int64
    with pytest.raises(ValueError, match="of another dtype, int64 in place of float32"):
        fill(target, plain(source) | {"0.bias": torch.ones(2, dtype=torch.int64)}, convert=True)


def test_every_family_of_torchvision_s_is_tried():
    def families(names):
        return {torchvision.models.get_model_builder(name).__module__ for name in names}

    assert families(SMALLEST) == families(torchvision.models.list_models(module=torchvision.models))


@pytest.fixture
def no_weights_of_torch(monkeypatch):
    """Leave out the initial weights that torch draws, which take seconds: `build` draws all of them again."""
    for name in ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.whole
@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_of_each_family_takes_a_step_and_predicts_the_same_from_its_file(name, no_weights_of_torch):
    images = torch.rand(2, 3, SMALLEST[name], SMALLEST[name], generator=torch.Generator().manual_seed(0))
    model = build(name, 3, 0.0, 0).train()
    other = deepcopy(model)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 1.0  # or else the statistics of the first weights leave nothing of an image
    first = model.head.weight.detach().clone()
    loss = cross_entropy(model(images, Noise.of(0, 1, torch.arange(2))), torch.tensor([0, 2]))
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.01)  # some are huge on two images
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert torch.isfinite(loss)
    assert not torch.equal(model.head.weight, first)
    fill(other, plain(model.requires_grad_(False)))
    assert equal(other.state_dict(), model.state_dict())
    with torch.inference_mode():
        probabilities = model.eval()(images).softmax(1)
        assert torch.equal(other.eval()(images).softmax(1), probabilities)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))
