"""A contestant: all settings that its process needs."""

from dataclasses import dataclass

REPLAY = "replay"
"""The name of a contestant that is no pipeline: it repeats a few ready batches, so that making them costs no time."""
NETWORKS = ("cnn", "resnet18")
"""The networks that train on batches. cnn: the network of experiment 2 in its headline configuration. resnet18:
torchvision's, at 32 x 32 pixels."""


@dataclass(frozen=True)
class Contestant:
    """A pipeline with a recipe, and the network that consumes its batches, if any."""

    pipeline: str
    """The name of a pipeline, as open_pipeline takes it, of one's own loader, or REPLAY."""
    recipe: str
    batch_size: int
    device: str
    """cpu, cuda or cuda:N."""
    dtype: str
    """The dtype of the pixels: float32, float16 or bfloat16."""
    threads: int
    """The number of CPU cores that its process and its workers may use."""
    data: str
    """The path of the dataset directory."""
    model: str | None = None
    """The network that trains on the batches, one of NETWORKS; None: the batches are dropped."""
    seed: int = 0
    own: bool = False
    """Whether ``pipeline`` names one's own loader, as `own.function_of` takes it."""
