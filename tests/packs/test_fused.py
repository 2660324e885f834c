"""A vision transformer's layers by fused kernels: torch's to rounding, forward and backward, for several runs."""

import pytest
import torch
from support.triton_kernels import on_each
from torch.func import functional_call, vmap
from torch.nn.functional import layer_norm

from fastcifar.models.vit import AS_RUN, DIM, EncoderLayer, Form
from fastcifar.packs.fused import PerRun, ShortNorm, fusing

RUNS = 3


def with_gradients(forward, tensors, upstream):
    out = forward(*tensors)
    return [out.detach(), *torch.autograd.grad(out, tensors, upstream)]


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("shared", [False, True], ids=["inputs of their own", "the same inputs"])
def test_attention_with_padded_heads_is_attention_to_rounding(shared):
    torch.manual_seed(0)
    plain, fused = (EncoderLayer(Form(), 0) for _ in range(2))
    fusing(fused, on_gpu=False)
    stacks = {
        name: (torch.randn(RUNS, *value.shape) * 0.2).requires_grad_() for name, value in plain.named_parameters()
    }
    x = torch.randn(*(() if shared else (RUNS,)), 4, 65, DIM, requires_grad=True)

    def of(layer):
        one = lambda own, x: functional_call(layer, own, (x, None))  # noqa: E731
        over = (0, None if shared else 0)
        return lambda x, *values: vmap(one, in_dims=over)(dict(zip(stacks, values, strict=True)), x)

    tensors = [x, *stacks.values()]
    upstream = torch.randn(RUNS, 4, 65, DIM)
    assert_close(*(with_gradients(of(layer), tensors, upstream) for layer in (fused, plain)))


def test_attention_with_dropout_of_its_weights_stays_as_it_is():
    assert "_attend" not in vars(fusing(EncoderLayer(AS_RUN, 0), on_gpu=True))


@on_each("device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "length"), [((2, 65), 30), ((5,), 48), ((70, 65), 7)])
def test_layer_norm_of_short_rows_is_torchs_to_rounding(rows, length, dtype, device):
    torch.manual_seed(0)
    x = (3 * torch.randn(RUNS, *rows, length) + 2).to(device, dtype).requires_grad_()
    weight, bias = (torch.randn(RUNS, length, device=device, requires_grad=True) for _ in range(2))
    upstream = torch.randn(RUNS, *rows, length, device=device)
    ours = with_gradients(vmap(lambda *own: PerRun.apply(*own, 1e-5)), (x, weight, bias), upstream)
    theirs = with_gradients(vmap(lambda x, w, b: layer_norm(x.float(), (length,), w, b)), (x, weight, bias), upstream)
    assert ours[0].dtype == torch.float32
    if dtype == torch.bfloat16:  # of the gradient of x, a unit in the last place; the interpreter truncates
        torch.testing.assert_close(ours[1].float(), theirs[1].float(), rtol=2**-7, atol=1e-2)
        del ours[1], theirs[1]
    assert_close(ours, theirs)


def test_on_a_gpu_norms_are_replaced_and_keep_their_parameters():
    layer = EncoderLayer(Form(), 0)
    before = dict(layer.named_parameters())
    fusing(layer, on_gpu=True)
    assert isinstance(layer.norm1, ShortNorm)
    assert dict(layer.named_parameters()) == before
