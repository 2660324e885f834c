"""The vision transformer of experiment 3: the form in the report, and the form that its authors ran.

Shape suffixes: B batch, T tokens (64 patches and the class token), D embedding, H heads.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from fastcifar.models.dropout import Dropout, Noise

PATCH, PATCHES, DIM, HEADS = 4, 64, 30, 6


class Form(NamedTuple):
    """The options of a vision transformer. The defaults are the values of the report."""

    depth: int = 6
    """The number of encoder layers."""
    width: int = 4 * DIM
    """The hidden units of an encoder layer's MLP."""
    activation: Callable[[Tensor], Tensor] = gelu
    """The activation function of the MLP."""
    pre_norm: bool = True
    """Whether LayerNorm comes before attention and MLP; if False, after each residual addition."""
    layer_dropout: float = 0.0
    """The dropout probability inside the encoder layers, in [0, 1)."""
    norm_patches: bool = False
    """Whether LayerNorm comes before and after the projection of patches."""


AS_RUN = Form(depth=1, width=2048, activation=relu, pre_norm=False, layer_dropout=0.1, norm_patches=True)
"""The form that the report's authors ran."""


class ViT(nn.Module):
    """A vision transformer: (B, 3, 32, 32) -> (B, classes), from the output of the class token."""

    products = HEADS
    """The matrix products of one image in a batched matrix product."""

    def __init__(self, classes: int, dropout: float = 0.0, form: Form = Form()) -> None:
        """Build the network. dropout: the dropout probability on the embedding, in [0, 1)."""
        super().__init__()
        pixels = 3 * PATCH * PATCH
        self.norm_pixels = nn.LayerNorm(pixels) if form.norm_patches else nn.Identity()
        self.project = nn.Linear(pixels, DIM)
        self.norm_projected = nn.LayerNorm(DIM) if form.norm_patches else nn.Identity()
        self.class_token = nn.Parameter(torch.empty(DIM))
        self.positions = nn.Parameter(torch.empty(PATCHES + 1, DIM))
        self.layers = nn.ModuleList(EncoderLayer(form, number) for number in range(form.depth))
        self.drop_embedding = Dropout(dropout, layer=EncoderLayer.DROPOUTS * form.depth)
        # post-norm layers already end in a norm
        self.norm = nn.LayerNorm(DIM) if form.pre_norm else nn.Identity()
        self.head = nn.Linear(DIM, classes)

    def forward(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        # (B, C, rows, 4, columns, 4) -> (B, rows * columns, C * 4 * 4)
        patches = images.unflatten(2, (-1, PATCH)).unflatten(4, (-1, PATCH))
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(len(images), PATCHES, -1)
        x_BTD = self.norm_projected(self.project(self.norm_pixels(patches)))
        first = self.class_token.to(x_BTD.dtype).expand(len(images), 1, DIM)
        x_BTD = self.drop_embedding(torch.cat([first, x_BTD], dim=1) + self.positions, noise)
        for layer in self.layers:
            x_BTD = layer(x_BTD, noise)
        return self.head(self.norm(x_BTD[:, 0]))


class EncoderLayer(nn.Module):
    """An encoder layer: attention, then the MLP, each with a residual addition.

    LayerNorm comes before attention and MLP (pre-norm), or after each addition (post-norm).
    """

    DROPOUTS = 4  # dropout layers in one encoder layer

    def __init__(self, form: Form, number: int) -> None:
        """Build the layer. number: its place among the encoder layers, from 0."""
        super().__init__()
        self.activation, self.pre_norm = form.activation, form.pre_norm
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.queries_keys_values, self.attended = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.widen, self.narrow = nn.Linear(DIM, form.width), nn.Linear(form.width, DIM)
        # at the same places as in torch's TransformerEncoderLayer
        self.drop_weights, self.drop_attended, self.drop_wide, self.drop_narrow = (
            Dropout(form.layer_dropout, layer=self.DROPOUTS * number + n) for n in range(self.DROPOUTS)
        )

    def forward(self, x_BTD: Tensor, noise: Noise | None) -> Tensor:
        if self.pre_norm:
            x_BTD = x_BTD + self._attend(self.norm1(x_BTD), noise)
            return x_BTD + self._mlp(self.norm2(x_BTD), noise)
        x_BTD = self.norm1(x_BTD + self._attend(x_BTD, noise))
        return self.norm2(x_BTD + self._mlp(x_BTD, noise))

    def _attend(self, x_BTD: Tensor, noise: Noise | None) -> Tensor:
        packed = self.queries_keys_values(x_BTD).unflatten(2, (3, HEADS, -1))
        q_BHTE, k_BHTE, v_BHTE = packed.permute(2, 0, 3, 1, 4)
        # written out, because torch's fused attention is many times slower for heads of 5 and cannot use our masks
        weights_BHTT = ((q_BHTE * q_BHTE.shape[-1] ** -0.5) @ k_BHTE.mT).softmax(-1)
        out_BHTE = self.drop_weights(weights_BHTT, noise).to(v_BHTE.dtype) @ v_BHTE
        out_BTD = self.attended(out_BHTE.transpose(1, 2).flatten(2))
        return self.drop_attended(out_BTD, noise)

    def _mlp(self, x_BTD: Tensor, noise: Noise | None) -> Tensor:
        wide = self.drop_wide(self.activation(self.widen(x_BTD)), noise)
        return self.drop_narrow(self.narrow(wide), noise)
