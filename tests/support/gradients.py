"""Results with their gradients, and how close two of them are."""

import torch


def with_gradients(forward, tensors, upstream):
    """The result of a function, and the gradients of its arguments."""
    out = forward(*tensors)
    return [out.detach(), *torch.autograd.grad(out, tensors, upstream)]


def assert_close(ours, theirs):
    """Tensors of one dtype are equal to rounding in float32."""
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))
