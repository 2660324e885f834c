"""Who competes: everything that its process must be told."""

from dataclasses import dataclass

REPLAY = "replay"
"""the name of no pipeline: a few batches kept and given again and again, which cost nothing to make"""


@dataclass(frozen=True)
class Contestant:
    """A pipeline under a recipe, and what consumes its batches."""

    pipeline: str
    """as open_pipeline takes it, or REPLAY"""
    recipe: str
    batch_size: int
    device: str
    """cpu, cuda or cuda:N"""
    dtype: str
    """of the pixels: float32, float16 or bfloat16"""
    threads: int
    """CPU cores for all that its process and its workers do"""
    data: str
    """path of the dataset directory"""
    model: str | None = None
    """the network that is trained on the batches (``trainee.NETWORKS``); None: they are taken and dropped"""
    seed: int = 0
