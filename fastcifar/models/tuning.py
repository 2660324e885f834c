"""The ways to fine-tune a pretrained network: the trained weights, and the mode of norm and dropout layers."""

from torch import nn

from fastcifar.errors import UsageError
from fastcifar.models.names import check_tune
from fastcifar.models.pretrained import Pretrained


def freeze(model: nn.Module, way: str) -> None:
    """Freeze the weights that a way does not train.

    Raises UsageError for an unknown way, or if the way needs a pretrained network and ``model`` is another one.
    """
    check_tune(way)
    if way == "full":
        return
    if not isinstance(model, Pretrained):
        raise UsageError(f"tune {way!r} is for pretrained networks; {type(model).__name__} is trained as a whole: full")
    model.backbone.requires_grad_(False)


def ready(model: nn.Module, way: str) -> None:
    """Set norm and dropout layers to the mode in which a way trains."""
    model.train()
    if way == "head":
        assert isinstance(model, Pretrained)  # freeze raised UsageError for other models
        model.backbone.eval()
