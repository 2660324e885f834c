"""The MLPs give what torch's own layers give."""

import pytest
import torch
from support.networks import built, images, with_weights_of
from torch import nn


@pytest.mark.parametrize(
    ("name", "widths"),
    [("mlp_s", (1500, 500, 100)), ("mlp_l", (2048, 1024, 512, 256, 128, 64, 32, 16))],
)
def test_mlp_against_torch(name, widths):
    layers, last = [], 3072
    for width in widths:
        layers += [nn.Linear(last, width), nn.ReLU()]
        last = width
    model = built(name, 10, 0.5, 0)
    torchs = with_weights_of(model, nn.Sequential(nn.Flatten(), *layers, nn.Linear(last, 10)))
    torch.testing.assert_close(model(images()), torchs(images()))
