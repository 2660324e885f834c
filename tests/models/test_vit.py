"""The ViTs give what torch's own layers give."""

import torch
from support.networks import images
from torch import nn

from fastcifar.models.build import build


class TorchViT(nn.Module):
    """Of torch's own parts; patches by Unfold, whose columns are channel by channel as well."""

    def __init__(self, model, depth, **layer):
        super().__init__()
        self.of = model
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(30, 6, dropout=0.0, batch_first=True, **layer) for _ in range(depth)
        )
        for mine, its in zip(model.layers, self.layers, strict=True):
            its.self_attn.in_proj_weight.data = mine.queries_keys_values.weight.data
            its.self_attn.in_proj_bias.data = mine.queries_keys_values.bias.data
            its.self_attn.out_proj.load_state_dict(mine.attended.state_dict())
            its.linear1.load_state_dict(mine.widen.state_dict())
            its.linear2.load_state_dict(mine.narrow.state_dict())
            its.norm1.load_state_dict(mine.norm1.state_dict())
            its.norm2.load_state_dict(mine.norm2.state_dict())

    def tokens(self, x):
        patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
        projected = self.of.norm_projected(self.of.project(self.of.norm_pixels(patches)))
        tokens = torch.cat([self.of.class_token.repeat(len(x), 1, 1), projected], 1)
        return tokens + self.of.positions

    def forward(self, x):
        x = self.tokens(x)
        for layer in self.layers:
            x = layer(x)
        return self.of.head(self.of.norm(x)[:, 0])


def shaken(model):
    """Norms that do something too: at first they are 1 and 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def test_vit_against_torch():
    model = shaken(build("vit", 10, 0.0, 1))
    torchs = TorchViT(model, 6, dim_feedforward=120, activation="gelu", norm_first=True)
    assert isinstance(model.norm, nn.LayerNorm)
    assert isinstance(model.norm_pixels, nn.Identity)
    torch.testing.assert_close(model(images()), torchs(images()), atol=1e-4, rtol=1e-4)


def test_vit_as_run_against_torch():
    model = shaken(build("vit_as_run", 10, 0.1, 1))
    torchs = TorchViT(model, 1, dim_feedforward=2048, activation="relu", norm_first=False)
    assert (model.norm_pixels.normalized_shape, model.norm_projected.normalized_shape) == ((48,), (30,))
    assert isinstance(model.norm, nn.Identity)
    torch.testing.assert_close(model(images()), torchs(images()), atol=1e-4, rtol=1e-4)
