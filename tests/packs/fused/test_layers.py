"""A network whose layers are replaced by kernels computes what it did, for several runs, and keeps its parameters."""

import pytest
import torch
from support.gradients import assert_close, with_gradients
from support.triton_kernels import interpreted
from torch.func import functional_call, vmap

from fastcifar.models.cnn import CNN
from fastcifar.models.vit import AS_RUN, DIM, EncoderLayer, Form
from fastcifar.packs.fused.convolution import activated
from fastcifar.packs.fused.layers import fusing
from fastcifar.packs.fused.norm import ShortNorm

RUNS = 3


@pytest.mark.parametrize("shared", [False, True], ids=["inputs of their own", "the same inputs"])
@pytest.mark.parametrize(
    ("on_gpu", "device"),
    [
        pytest.param(False, "cpu", id="padded heads"),
        pytest.param(True, "cpu", marks=interpreted, id="a kernel, interpreted"),
        pytest.param(True, "cuda", marks=pytest.mark.gpu, id="a kernel"),
    ],
)
def test_fused_layers_are_plain_layers_to_rounding(on_gpu, device, shared):
    torch.manual_seed(0)
    plain, fused = (EncoderLayer(Form(), 0).to(device) for _ in range(2))
    fusing(fused, on_gpu)
    stacks = {
        name: (torch.randn(RUNS, *value.shape, device=device) * 0.2).requires_grad_()
        for name, value in plain.named_parameters()
    }
    x = torch.randn(*(() if shared else (RUNS,)), 1, 65, DIM, device=device, requires_grad=True)

    def of(layer):
        one = lambda own, x: functional_call(layer, own, (x, None))  # noqa: E731
        over = (0, None if shared else 0)
        return lambda x, *values: vmap(one, in_dims=over)(dict(zip(stacks, values, strict=True)), x)

    tensors = [x, *stacks.values()]
    upstream = torch.randn(RUNS, 1, 65, DIM, device=device)
    assert_close(*(with_gradients(of(layer), tensors, upstream) for layer in (fused, plain)))


def test_attention_with_dropout_of_its_weights_stays_as_it_is():
    assert "_attend" not in vars(fusing(EncoderLayer(AS_RUN, 0), on_gpu=True))


def test_on_a_gpu_norms_are_replaced_and_keep_their_parameters():
    layer = EncoderLayer(Form(), 0)
    before = dict(layer.named_parameters())
    fusing(layer, on_gpu=True)
    assert isinstance(layer.norm1, ShortNorm)
    assert dict(layer.named_parameters()) == before


def test_of_a_cnn_every_convolution_is_replaced():
    network = CNN(10, 0.0)
    before = dict(network.named_parameters())
    fusing(network, on_gpu=True)
    assert vars(network)["_activated"] is activated
    assert dict(network.named_parameters()) == before
