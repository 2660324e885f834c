"""Experiment 1's multi-layer perceptrons."""

from itertools import pairwise

from torch import Tensor, nn

from fastcifar.models.dropout import Dropout, Noise


class MLP(nn.Module):
    """An MLP: (B, 3, 32, 32) -> (B, classes).

    hidden: the units of each hidden layer. ReLU follows every hidden layer, and dropout the last one.
    """

    def __init__(self, hidden: tuple[int, ...], classes: int, dropout: float) -> None:
        super().__init__()
        widths = (3 * 32 * 32, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = Dropout(dropout, layer=0)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        x = images.flatten(1)
        for layer in self.hidden:
            x = layer(x).relu()
        return self.head(self.dropout(x, noise))
