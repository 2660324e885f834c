"""Attention of short sequences by a kernel: torch's to rounding, forward and backward."""

import pytest
import torch
from support.gradients import with_gradients
from support.triton_kernels import on_each
from torch.nn.functional import scaled_dot_product_attention

from fastcifar.packs.fused.attention import ShortAttention

RUNS = 3


def attention(packed):
    """Attention of (N, T, 3, H, E) by torch, float32."""
    q, k, v = packed.float().permute(2, 0, 3, 1, 4)
    return scaled_dot_product_attention(q, k, v).transpose(1, 2)


@on_each("device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "heads", "size"), [(65, 2, 5), (1, 2, 3), (16, 1, 8), (17, 3, 1), (100, 2, 20)])
def test_attention_of_short_sequences_is_torchs_to_rounding(tokens, heads, size, dtype, device):
    torch.manual_seed(0)
    packed = (2 * torch.randn(RUNS, tokens, 3, heads, size)).to(device, dtype).requires_grad_()
    upstream = torch.randn(RUNS, tokens, heads, size).to(device, dtype)
    ours = with_gradients(ShortAttention.apply, [packed], upstream)
    theirs = with_gradients(attention, [packed], upstream.float())
    assert [value.dtype for value in ours] == [dtype, dtype]
    # of a weight: units in the last place; the interpreter truncates, and a GPU's exponential has an error of two
    step = (4e-6 if device == "cuda" else 1e-6) if dtype == torch.float32 else 2**-7
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=0, atol=2 * step * float(other.abs().max()))


@on_each("device")
def test_attention_writes_nothing_but_its_own_values(device):
    """A head's values are neighbours of other heads' and images', and 65 tokens do not fill the kernel's tiles."""
    torch.manual_seed(0)
    packed = torch.randn(3, 65, 3, 3, 5, device=device, requires_grad=True)
    upstream = torch.zeros(3, 65, 3, 5, device=device)
    upstream[1, :, 1] = 1
    (gradient,) = torch.autograd.grad(ShortAttention.apply(packed), packed, upstream)
    touched = gradient.ne(0).sum((1, 2, 4))
    assert touched[1, 1]
    assert touched.sum() == touched[1, 1]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_repeats_its_bits_on_a_gpu(dtype):
    torch.manual_seed(0)
    packed = torch.randn(3072, 65, 3, 6, 5, device="cuda", dtype=dtype, requires_grad=True)
    upstream = torch.randn(3072, 65, 6, 5, device="cuda", dtype=dtype)
    first = with_gradients(ShortAttention.apply, [packed], upstream)
    for _ in range(20):
        assert all(map(torch.equal, with_gradients(ShortAttention.apply, [packed], upstream), first))
