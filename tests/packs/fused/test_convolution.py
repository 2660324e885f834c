"""Convolutions with bias and ReLU as one kernel: torch's to rounding, forward and backward, for several runs."""

import pytest
import torch
from support.triton_kernels import on_each
from torch import nn
from torch.func import functional_call, vmap

from fastcifar.packs.fused.convolution import activated

RUNS, IMAGES = 2, 3
CASES = [  # side, channels, channels of the result, kernel, stride, padding
    (8, 3, 32, 3, 2, 1),  # the CNN's layers have 3 to 32, 32 to 64 and 64 to 128 channels
    (8, 32, 64, 3, 2, 1),
    (4, 64, 128, 3, 2, 1),
    (7, 4, 20, 5, 3, 2),
    (6, 8, 6, 3, 1, 1),
    (5, 4, 6, 1, 1, 0),
    (6, 4, 4, 2, 3, 0),  # some pixels are seen by no output
]


def tensors_of(case, shared, device, dtype=torch.float32):
    side, channels, out, kernel, stride, padding = case
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, out, kernel, stride, padding)
    x = torch.randn(*(() if shared else (RUNS,)), IMAGES, channels, side, side)
    x = x.flatten(0, -4).to(memory_format=torch.channels_last).view(x.shape)
    own = {name: 0.3 * torch.randn(RUNS, *value.shape) for name, value in layer.named_parameters()}
    moved = [value.to(device, dtype).requires_grad_() for value in (x, *own.values())]
    return layer.to("meta"), moved[0].requires_grad_(not shared), moved[1:]


def made(forward, layer, x, own, shared):
    """The result and gradients of a layer, for one upstream gradient."""

    def one(weight, bias, images):
        return functional_call(Layer(layer, forward), {"layer.weight": weight, "layer.bias": bias}, (images,))

    out = vmap(one, in_dims=(0, 0, None if shared else 0))(*own, x)
    upstream = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [*([] if shared else [x]), *own], upstream)]


def plain(convolution, images):
    return convolution(images).relu()


class Layer(nn.Module):
    def __init__(self, layer, forward):
        super().__init__()
        self.layer, self._forward = layer, forward

    def forward(self, x):
        return self._forward(self.layer, x)


def assert_close(tensors, shared, most):
    """Our result and gradients are those that torch computes in float64: norm of the difference, relative."""
    layer, x, own = tensors
    ours = made(activated, layer, x, own, shared)
    exact = [value.detach().double().requires_grad_(value.requires_grad) for value in (x, *own)]
    for one, other in zip(ours, made(plain, layer, exact[0], exact[1:], shared), strict=True):
        assert one.dtype == x.dtype
        assert float((one.double() - other).norm() / other.norm()) <= most


@on_each("device")
@pytest.mark.parametrize("shared", [False, True], ids=["images of their own", "the same images"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_torchs_convolution_and_relu(case, shared, device):
    assert_close(tensors_of(case, shared, device), shared, 1e-6)


@on_each("device")
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_in_bfloat16_only_results_are_rounded(case, device):
    most = 2**-8 if device == "cuda" else 2**-7  # the interpreter truncates
    assert_close(tensors_of(case, False, device, torch.bfloat16), False, most)


@on_each("device")
@pytest.mark.parametrize("what", ["a weight", "a pixel", "a bias"])
def test_nan_stays_nan_as_in_torch(what, device):
    """Else a run whose weights have become NaN would go on as if nothing had happened. Other runs are not affected."""
    layer, x, own = tensors_of((6, 8, 6, 3, 1, 1), False, device)
    with torch.no_grad():
        {"a weight": own[0], "a pixel": x, "a bias": own[1]}[what][1, 0] = torch.nan
    ours, theirs = (made(forward, layer, x, own, False) for forward in (activated, plain))
    for one, other in zip(ours, theirs, strict=True):
        assert one[1][other[1].isnan()].isnan().all()
        assert not one[0].isnan().any()
    assert ours[0][1].isnan().any()


@pytest.mark.gpu
def test_the_gradients_repeat_their_bits():
    tensors = tensors_of((16, 32, 64, 3, 2, 1), False, "cuda", torch.bfloat16)
    first = made(activated, *tensors, False)
    for _ in range(10):
        again = made(activated, *tensors, False)
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
