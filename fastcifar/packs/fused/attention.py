"""A vision transformer's attention of several runs: by a Triton kernel on a GPU, else by torch's fused attention.

Shape suffixes: R runs, B batch, H heads, T tokens, E embedding of a head, 3 queries, keys and values.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fastcifar.models.dropout import Noise
from fastcifar.models.vit import HEADS, EncoderLayer
from fastcifar.packs.fused.under_vmap import UnderVmap
from fastcifar.packs.linear import product

MULTIPLE = 8  # torch's fused attention takes heads whose dimension is a multiple of this number


def attend(layer: EncoderLayer, x: Tensor, noise: Noise | None) -> Tensor:
    """Return what `EncoderLayer._attend` returns, by `ShortAttention`, of a layer without dropout of its weights."""
    out_BTHE = ShortAttention.apply(layer.queries_keys_values(x).unflatten(2, (3, HEADS, -1)))
    return layer.drop_attended(layer.attended(out_BTHE.flatten(2)), noise)


class ShortAttention(torch.autograd.Function):
    """Scaled dot-product attention of packed (B, T, 3, H, E), by the kernels of `kernels.gpu.attention`."""

    @staticmethod
    def forward(packed_BT3HE: Tensor) -> Tensor:
        from fastcifar.kernels.gpu import attention

        return attention.attention(packed_BT3HE.contiguous())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_BTHE: Tensor) -> Tensor:
        from fastcifar.kernels.gpu import attention

        (packed_BT3HE,) = ctx.saved_tensors
        return attention.attention_gradients(packed_BT3HE.contiguous(), upstream_BTHE.contiguous())

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], packed: Tensor) -> tuple[Tensor, int]:
        """Merge the run dimension into the batch dimension: all runs' images are one batch."""
        packed_RBT3HE = packed.movedim(in_dims[0], 0)
        made = ShortAttention.apply(packed_RBT3HE.flatten(0, 1))
        return made.unflatten(0, packed_RBT3HE.shape[:2]), 0


def attend_padded(layer: EncoderLayer, x: Tensor, noise: Noise | None) -> Tensor:
    """Return what `EncoderLayer._attend` returns, of a layer without dropout of its attention weights.

    The weights are padded with zeros, so that the dimension of a head becomes a multiple of MULTIPLE. The additional
    values are 0: they change no product of queries and keys, and their attended values are not used.
    """
    before, after = layer.queries_keys_values, layer.attended
    size = before.weight.shape[0] // (3 * HEADS)
    more = (0, -size % MULTIPLE)
    weight = F.pad(before.weight.unflatten(0, (-1, size)).mT, more).mT.flatten(0, 1)
    packed = product(x, weight, F.pad(before.bias.unflatten(0, (-1, size)), more).flatten())
    out_BHTE = Attention.apply(packed.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4), size**-0.5)
    weight = F.pad(after.weight.unflatten(1, (-1, size)), more).flatten(1)
    return layer.drop_attended(product(out_BHTE.transpose(1, 2).flatten(2), weight, after.bias), noise)


class Attention(UnderVmap):
    """Scaled dot-product attention of (3, B, H, T, E) queries, keys and values, under vmap as one batch of all runs."""

    @staticmethod
    def forward(packed: Tensor, scale: float) -> Tensor:
        q, k, v = packed.unbind()
        return F.scaled_dot_product_attention(q, k, v, scale=scale)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], packed: Tensor, scale: float) -> tuple[Tensor, int]:
        packed = packed.movedim(in_dims[0], 1)
        runs = packed.shape[1:3]
        q, k, v = (part.flatten(0, 1) for part in packed.unbind())
        return F.scaled_dot_product_attention(q, k, v, scale=scale).unflatten(0, runs), 0
