"""The names of a file's tensors become those of the network: of wrapped modules, of runs and of well-known origins."""

import pytest
import torch
from torch import nn

from fastcifar.models.build import build
from fastcifar.models.published import Weights, load
from fastcifar.models.tensor_names import RUN, translated, without_wrappers

OF_A_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
STAGES = {"lite0": (1, 2, 2, 3, 3, 4, 1), "lite1": (1, 3, 3, 4, 4, 5, 1), "b0": (1, 2, 2, 3, 3, 4, 1)}
"""The numbers of blocks in the stages of EfficientNets: M. Tan and Q. Le, 2019, and the Lite ones."""


def of_efficientnet_pytorch(size):
    """The names that EfficientNet-PyTorch gives an EfficientNet, each with the place of the layer in its network."""
    layers = {"_conv_stem": "conv", "_bn0": "norm"}
    for n in range(sum(STAGES[size])):
        block = {"_depthwise_conv": "conv", "_bn1": "norm", "_project_conv": "conv", "_bn2": "norm"}
        if n >= STAGES[size][0]:
            block |= {"_expand_conv": "conv", "_bn0": "norm"}
        if not size.startswith("lite"):
            block |= {"_se_reduce": "biased", "_se_expand": "biased"}
        layers |= {f"_blocks.{n}.{name}": kind for name, kind in block.items()}
    layers |= {"_conv_head": "conv", "_bn1": "norm", "_fc": "biased"}
    values = {"conv": ("weight",), "norm": OF_A_NORM, "biased": ("weight", "bias")}
    return [f"{layer}.{value}" for layer, kind in layers.items() for value in values[kind]]


@pytest.mark.parametrize("size", STAGES)
def test_the_names_of_efficientnet_pytorch_become_those_of_timm(size):
    timm = pytest.importorskip("timm", reason="timm is an extra")
    wanted = timm.create_model(f"tf_efficientnet_{size}", num_classes=10).state_dict()
    given = {name: torch.tensor(n) for n, name in enumerate(of_efficientnet_pytorch(size))}
    new, origin = translated(given, wanted)
    assert (origin, new.keys(), len(new)) == ("EfficientNet-PyTorch", wanted.keys(), len(given))


def test_each_layer_of_a_block_becomes_the_one_in_its_place():
    """Without timm: a network of two stages, with one block that widens nothing and two that do."""
    names = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.bias": "bn1.bias",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.0._bn1.weight": "blocks.0.0.bn1.weight",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.0._bn2.weight": "blocks.0.0.bn2.weight",
        "_blocks.2._expand_conv.weight": "blocks.1.1.conv_pw.weight",
        "_blocks.2._bn0.running_var": "blocks.1.1.bn1.running_var",
        "_blocks.2._depthwise_conv.weight": "blocks.1.1.conv_dw.weight",
        "_blocks.2._bn1.weight": "blocks.1.1.bn2.weight",
        "_blocks.2._se_reduce.bias": "blocks.1.1.se.conv_reduce.bias",
        "_blocks.2._se_expand.bias": "blocks.1.1.se.conv_expand.bias",
        "_blocks.2._project_conv.weight": "blocks.1.1.conv_pwl.weight",
        "_blocks.2._bn2.weight": "blocks.1.1.bn3.weight",
        "_conv_head.weight": "conv_head.weight",
        "_bn1.weight": "bn2.weight",
        "_fc.weight": "classifier.weight",
    }
    wanted = {*names.values(), "blocks.1.0.conv_pw.weight"}
    new, origin = translated({name: torch.ones(1) for name in names}, wanted)
    assert origin == "EfficientNet-PyTorch"
    assert list(new) == list(names.values())
    more, _ = translated({"_blocks.9._bn1.weight": torch.ones(1), "_fc.bias": torch.ones(1)}, {"classifier.bias"})
    assert list(more) == ["_blocks.9._bn1.weight", "classifier.bias"]  # a block that the network lacks stays


def test_names_that_fit_stay_and_so_do_those_of_nobody():
    tensors = {"conv_stem.weight": torch.ones(1), "_bn0.bias": torch.ones(1)}
    assert translated(tensors, {"conv_stem.weight"}) == (tensors, "")
    assert translated(tensors, {"something.else"}) == (tensors, "")
    some = {"bn1.bias", *(f"layer{n}.weight" for n in range(4))}  # of a ResNet, which has a bn1, too
    assert translated(tensors, some) == (tensors, "")


def test_wrappers_are_left_out_together():
    plain, left_out = without_wrappers({"module._orig_mod.a.b": torch.ones(1), "module.c": torch.ones(1)})
    assert (list(plain), left_out) == (["a.b", "c"], ["_orig_mod.", "module."])


def test_a_run_of_ones_own_network_from_scratch_gives_its_weights_to_one_that_is_fine_tuned():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    given = {f"network.{name}": value for name, value in network.state_dict().items()}
    new, origin = translated(given, {"0.weight", "0.bias"})
    assert (list(new), origin) == (list(network.state_dict()), RUN)


def test_what_is_left_out_and_what_is_new_is_said():
    source, model = build("mobilenet_v3_small", 7, 0.0, 3), build("mobilenet_v3_small", 10, 0.0, 4)
    says = "a run of fastcifar; the last layer of 10 classes is new, and that of the file, of 7 classes, is left out"
    assert load(model, Weights("x", source.state_dict())) == f"names of {says}"
    said = load(model, Weights("x", source.backbone.state_dict()))
    assert said == "the last layer of 10 classes is new, and the file has none"
