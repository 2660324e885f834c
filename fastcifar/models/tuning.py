"""The ways to fine-tune a pretrained network: which weights are trained, what norms and dropouts do meanwhile."""

from torch import nn

from fastcifar.errors import UsageError
from fastcifar.models.pretrained import Pretrained

WAYS = ("full", "head", "as-run")
"""full: every weight; head: the last layer alone, the backbone as it is when evaluated; as-run: the last layer alone,
but BatchNorm and dropout as in training, so that running statistics drift with every batch"""


def check(way: str) -> None:
    """Raise UsageError for an unknown way."""
    if way not in WAYS:
        raise UsageError(f"tune {way!r} is not one of {', '.join(WAYS)}")


def freeze(model: nn.Module, way: str) -> None:
    """Leave to training what a way trains. Raises UsageError for an unknown way, or one that is not the model's."""
    check(way)
    if way == "full":
        return
    if not isinstance(model, Pretrained):
        raise UsageError(f"tune {way!r} is for pretrained networks; {type(model).__name__} is trained as a whole: full")
    model.backbone.requires_grad_(False)


def ready(model: nn.Module, way: str) -> None:
    """Bring norms and dropouts into the state that a way trains in."""
    model.train()
    if way == "head":
        assert isinstance(model, Pretrained)  # freeze refused others
        model.backbone.eval()
