"""The pipeline under test, and the requirements of the clause that is checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastcifar.augment import Augment
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.data.formats import writable_formats
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import Batch, Pipeline, Request, find_pipeline, open_pipeline
from fastcifar.recipes import recipe

LEAST = 64  # training images; with fewer, batches of all sizes could not be told apart


class ContractBroken(FastcifarError, AssertionError):
    """A pipeline breaks a clause of the contract. The message has the clause, and what happened."""


@dataclass
class Case:
    """The pipeline under test, and the clause that is checked at present."""

    pipeline: str | type[Pipeline]
    dataset: Dataset
    recipes: Sequence[str | Augment]
    dtypes: tuple[torch.dtype, ...]
    device: torch.device
    workers: int | None
    folder: Path
    clause: str = ""
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.type, self.form = find_pipeline(self.pipeline)
        self.name = self.pipeline if isinstance(self.pipeline, str) else self.type.__name__
        self.training = self.dataset.ids("training").tolist()
        if len(self.training) < LEAST:
            raise UsageError(f"the dataset has {len(self.training)} training images; {LEAST} are needed at least")
        if reason := self.type.missing(self.form):
            raise UsageError(f"pipeline {self.name!r} cannot be used: {reason}")
        self.specs: dict[str, Augment] = {}
        """The recipes that the pipeline does not refuse, by name."""
        self.refused: dict[str, str] = {}
        for each in self.recipes:
            name, spec = str(each), recipe(each) if isinstance(each, str) else each
            reason = self.type.refuses(Request(self.dataset, augment=spec, device=self.device), self.form)
            if reason:
                self.refused[name] = reason
            else:
                self.specs[name] = spec
        if not self.specs:
            raise UsageError(f"pipeline {self.name!r} cannot be used: {next(iter(self.refused.values()), 'no recipe')}")
        self.plain, self.fullest = next(iter(self.specs.values())), list(self.specs.values())[-1]

    def open(self, dataset: Dataset | None = None, **request: Any) -> Pipeline:
        """Open the pipeline with the fullest recipe and a batch size of 16, unless the request has others."""
        request = {"augment": self.fullest, "batch_size": 16, "device": self.device, **request}
        return open_pipeline(self.pipeline, dataset or self.dataset, self.workers, **request)

    def epoch(self, k: int = 0, **request: Any) -> list[Batch]:
        """Return the batches of an epoch of a new pipeline."""
        with self.open(**request) as pipeline:
            return list(pipeline.epoch(k))

    def skip(self, reason: str) -> None:
        self.skipped.append((self.clause, reason))

    def require(self, condition: bool, happened: str) -> None:
        if not condition:
            raise ContractBroken(f"pipeline {self.name}: {self.clause}: {happened}")

    def require_equal(self, batches: Sequence[Batch], expected: Sequence[Batch], when: str) -> None:
        """Require that batches are equal, bit by bit."""
        self.require(len(batches) == len(expected), f"{len(batches)} batches instead of {len(expected)} {when}")
        for n, (got, wanted) in enumerate(zip(batches, expected, strict=True)):
            for part in Batch._fields:
                same = torch.equal(_bits(getattr(got, part)), _bits(getattr(wanted, part)))
                self.require(same, f"the {part} of batch {n} are not the same {when}")

    def require_usage_error(self, iterator: Iterator[Batch], when: str) -> None:
        try:
            next(iterator)
        except UsageError:
            return
        except StopIteration:
            self.require(False, f"{when} ends the epoch in silence instead of raising UsageError")
        self.require(False, f"{when} gives a batch instead of raising UsageError")


def synthetic_dataset(path: Path, count: int = 100) -> Dataset:
    """Make a dataset directory of ``count`` synthetic images at ``path``, in every format that can be written here."""
    return convert(f"synthetic:{count}", path, writable_formats())


def order_of(batches: Sequence[Batch]) -> list[int]:
    ids: list[int] = torch.cat([batch.ids for batch in batches]).tolist() if batches else []
    return ids


def _bits(values: Tensor) -> Tensor:
    """Return values as integers of the same bits, which are equal for equal NaNs, too."""
    return (
        values.view({2: torch.int16, 4: torch.int32}[values.element_size()]) if values.is_floating_point() else values
    )
