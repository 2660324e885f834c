"""A vision transformer's layers by fused kernels: torch's to rounding, forward and backward, for several runs."""

import pytest
import torch
from support.triton_kernels import interpreted, on_each
from torch.func import functional_call, vmap
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from fastcifar.models.vit import AS_RUN, DIM, EncoderLayer, Form
from fastcifar.packs.fused import PerRun, ShortAttention, ShortNorm, fusing

RUNS = 3


def with_gradients(forward, tensors, upstream):
    out = forward(*tensors)
    return [out.detach(), *torch.autograd.grad(out, tensors, upstream)]


def assert_close(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


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
