"""Linear layers by kernels: torch's to rounding, forward and backward, for several runs."""

import pytest
import torch
from support.gradients import with_gradients
from support.triton_kernels import on_each
from torch import nn
from torch.func import vmap
from torch.nn.functional import linear

from fastcifar.packs.fused.linear import PerRun, SmallLinear, is_small
from fastcifar.packs.linear import Product

RUNS = 3


@on_each("device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shared", [False, True], ids=["inputs of their own", "the same inputs"])
@pytest.mark.parametrize(("rows", "size", "wide"), [((5, 65), 30, 90), ((3,), 48, 10), ((10, 65), 17, 128)])
def test_it_is_torchs_linear_layer(rows, size, wide, shared, dtype, device):
    torch.manual_seed(0)
    x = torch.randn(*(() if shared else (RUNS,)), *rows, size).to(device).requires_grad_(not shared)
    weight = torch.randn(RUNS, size, wide).to(device, dtype).mT.requires_grad_()  # as a stack lays it out
    bias, upstream = (torch.randn(shape).to(device, dtype) for shape in ((RUNS, wide), (RUNS, *rows, wide)))
    tensors = [*([] if shared else [x]), weight, bias.requires_grad_()]

    def of(forward):
        over = (None if shared else 0, 0, 0)
        return lambda *own: vmap(forward, in_dims=over)(*([x] if shared else []), *own)

    ours = with_gradients(of(PerRun.apply), tensors, upstream)
    assert [value.dtype for value in ours] == [dtype, *(value.dtype for value in tensors)]
    exact = [value.detach().to(dtype).double().requires_grad_() for value in tensors]
    x = x.detach().to(dtype).double()
    theirs = with_gradients(of(linear), exact, upstream.double())
    for one, other in zip(ours, theirs, strict=True):
        # the interpreter truncates to bfloat16
        assert float((one.double() - other).norm() / other.norm()) < (1e-6 if dtype == torch.float32 else 2**-7)


@pytest.mark.gpu
def test_the_gradients_repeat_their_bits():
    x, weight = (torch.randn(shape, device="cuda").bfloat16() for shape in ((24, 8320, 30), (24, 120, 30)))
    tensors = [x.requires_grad_(), weight.requires_grad_(), torch.randn(24, 120, device="cuda").bfloat16()]
    tensors[2].requires_grad_()
    upstream = torch.randn(24, 8320, 120, device="cuda").bfloat16()
    first = with_gradients(vmap(PerRun.apply), tensors, upstream)
    for _ in range(10):
        assert all(map(torch.equal, with_gradients(vmap(PerRun.apply), tensors, upstream), first))


def test_a_layer_in_float32_is_a_product():
    layer = SmallLinear(Product(nn.Linear(4, 3)))
    x = torch.randn(5, 4)
    assert torch.equal(layer(x), linear(x, layer.weight, layer.bias))


def test_layers_that_the_kernels_take():
    assert is_small(Product(nn.Linear(30, 128)))
    assert not is_small(Product(nn.Linear(30, 129)))
    assert not is_small(Product(nn.Linear(30, 10, bias=False)))
