"""What the runs of a pack have in common."""

from typing import NamedTuple

from fastcifar.runs.spec import RunSpec


class Shape(NamedTuple):
    """What the runs of a pack have in common."""

    experiment: int
    model: str
    protocol: str
    batch_size: int
    side: int
    """of the images, pixels"""
    precision: str
    pipeline: str
    tune: str
    weights: str

    @classmethod
    def of(cls, spec: RunSpec, side: int) -> "Shape":
        """That of a run, whose recipe makes images of ``side`` pixels."""
        return cls(
            spec.experiment, spec.model, spec.protocol, spec.batch_size, side, spec.precision, spec.pipeline, spec.tune,
            spec.weights,
        )  # fmt: skip
