"""The CNN gives what torch's own layers give."""

import torch
from support.networks import images, with_weights_of
from torch import nn

from fastcifar.models.build import build


def test_cnn_against_torch():
    model = build("cnn", 10, 0.5, 1)
    torchs = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 128, 3, 2, 1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 40), nn.ReLU(),
        nn.Linear(40, 10),
    )  # fmt: skip
    torch.testing.assert_close(model(images()), with_weights_of(model, torchs)(images()))
