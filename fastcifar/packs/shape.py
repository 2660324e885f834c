"""The shape of a pack: the settings that its runs have in common."""

from typing import NamedTuple

from fastcifar.models.names import NO_CODE
from fastcifar.runs.spec import RunSpec


class Shape(NamedTuple):
    """The settings that the runs of a pack have in common."""

    experiment: int
    model: str
    protocol: str
    batch_size: int
    side: int
    """Height and width of the images, in pixels."""
    precision: str
    pipeline: str
    tune: str
    weights: str
    optimizer: str = "adam"
    code: str = NO_CODE

    @classmethod
    def of(cls, spec: RunSpec, side: int) -> "Shape":
        """Return the shape of a run. side: height and width of the images that its recipe makes, in pixels."""
        return cls(
            spec.experiment, spec.model, spec.protocol, spec.batch_size, side, spec.precision, spec.pipeline, spec.tune,
            spec.weights, spec.optimizer, spec.code,
        )  # fmt: skip
