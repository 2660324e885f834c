"""Convolutions as products of matrices: torch's own convolution to rounding, in launches that neither the batch nor the
number of runs multiplies.
"""

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from bench.lib.launches import Trace
from fastcifar.errors import UsageError
from fastcifar.packs.convolution import Im2Col, convolving

CASES = [
    {"kernel_size": 3, "stride": 2, "padding": 1},  # the CNN's
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1},
    {"kernel_size": (3, 2), "stride": (2, 3), "padding": (0, 2), "dilation": (1, 2), "bias": False},
    {"kernel_size": 5, "stride": 3},
]


def gradients(module, x, upstream):
    x = x.clone().requires_grad_()
    out = module(x)
    return out, torch.autograd.grad((out * upstream).sum(), [x, *module.parameters()])


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_torchs_convolution(case, layout):
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 6, **case).double()
    ours = Im2Col(plain)
    x = torch.randn(3, 4, 11, 9, dtype=torch.float64).to(memory_format=layout)
    upstream = torch.randn_like(plain(x))
    (out, grads), (wanted, wanted_grads) = (gradients(module, x, upstream) for module in (ours, plain))
    torch.testing.assert_close(out, wanted)
    for one, other in zip(grads, wanted_grads, strict=True):
        torch.testing.assert_close(one, other)


def test_its_parameters_and_result_are_those_of_the_convolution_it_stands_for():
    plain = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    ours = Im2Col(plain)
    assert dict(ours.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    assert ours(torch.zeros(2, 3, 32, 32)).is_contiguous(memory_format=torch.channels_last)
    for refused in (nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding="same")):
        with pytest.raises(UsageError, match="cannot run as a matrix product; choose the way grouped"):
            Im2Col(refused)


def network():
    return convolving(
        nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)), "im2col"
    )


def trained(runs, batch, shared=False):
    """Forward and backward of so many runs: the operations that were dispatched, and the gradients."""
    torch.manual_seed(0)
    one = network()
    shapes = {name: (runs, *value.shape) for name, value in one.named_parameters()}
    stacks = {name: torch.randn(shape, dtype=torch.float64).requires_grad_() for name, shape in shapes.items()}
    images = torch.randn((batch, 3, 16, 16) if shared else (runs, batch, 3, 16, 16), dtype=torch.float64)
    with Trace() as counted:
        out = vmap(lambda own, x: functional_call(one, own, (x,)), in_dims=(0, None if shared else 0))(stacks, images)
        out.square().sum().backward()
    return counted, stacks, images


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="larger than images of"):
        Im2Col(nn.Conv2d(1, 1, 5))(torch.zeros(1, 1, 3, 3))


@pytest.mark.parametrize("shared", [False, True], ids=["images of their own", "the same images"])
def test_launches_do_not_grow_with_the_batch_or_the_runs(shared):
    few, *_ = trained(2, 4, shared)
    assert trained(2, 32, shared)[0].counts == few.counts
    assert trained(24, 4, shared)[0].counts == few.counts
    assert len(few.launches) < 60, few.counts


@pytest.mark.parametrize("shared", [False, True])
def test_a_runs_gradients_are_its_own(shared):
    _, stacks, images = trained(3, 4, shared)
    for run in range(3):
        alone = network().double()
        alone.load_state_dict({name: value[run] for name, value in stacks.items()})
        alone(images if shared else images[run]).square().sum().backward()
        for name, value in alone.named_parameters():
            torch.testing.assert_close(stacks[name].grad[run], value.grad)


def test_gradients_of_bfloat16_are_added_in_float32():
    """Where windows overlap, a pixel's gradient is a sum; only its result is rounded."""
    ours = Im2Col(nn.Conv2d(1, 1, 3, padding=1, bias=False).bfloat16())
    nn.init.ones_(ours.weight)
    x = torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    upstream = torch.full((1, 1, 3, 3), 1.0, dtype=torch.bfloat16)
    upstream[0, 0, 2, 2] = 256.0  # the first that is added: in bfloat16, 256 + 1 is 256
    ours(x).backward(upstream)
    assert float(x.grad[0, 0, 1, 1]) == 264.0
