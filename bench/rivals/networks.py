"""The networks of experiments 1 to 3 as a newcomer writes them: from torch's own modules, dropout included."""

from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp_s(classes: int) -> nn.Module:
    """Return experiment 1's small MLP, with the report's dropout of 0.1."""
    widths = (3072, 1500, 500, 100)
    return nn.Sequential(
        nn.Flatten(),
        *(layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())),
        *(nn.Dropout(0.1), nn.Linear(100, classes)),
    )


def cnn(classes: int) -> nn.Module:
    """Return experiment 2's CNN, with dropout of 0.5."""
    return nn.Sequential(
        *(layer for a, b in ((3, 32), (32, 64), (64, 128)) for layer in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())),
        *(nn.MaxPool2d(2), nn.Dropout2d(0.5), nn.Flatten()),
        *(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 40), nn.ReLU(), nn.Linear(40, classes)),
    )


class PlainViT(nn.Module):
    """Experiment 3's transformer: 4 x 4 patches, six pre-norm layers of dimension 30 with six heads."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 30, kernel_size=4, stride=4)
        self.class_token = nn.Parameter(torch.zeros(1, 1, 30))
        self.positions = nn.Parameter(torch.zeros(1, 65, 30))
        layer = nn.TransformerEncoderLayer(
            30, 6, 120, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 6, norm=nn.LayerNorm(30), enable_nested_tensor=False)
        self.head = nn.Linear(30, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, classes), of images, (B, 3, 32, 32) float32."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1) + self.positions
        return self.head(self.encoder(tokens)[:, 0])


NETWORKS = {"mlp_s": mlp_s, "cnn": cnn, "vit": PlainViT}
