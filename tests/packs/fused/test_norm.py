"""LayerNorm by a kernel: torch's to rounding, forward and backward, for several runs."""

import pytest
import torch
from support.gradients import assert_close, with_gradients
from support.triton_kernels import on_each
from torch.func import vmap
from torch.nn.functional import layer_norm

from fastcifar.packs.fused.norm import PerRun

RUNS = 3


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
