"""The contract of a pipeline as checks, for the tests of one's own pipeline: `check_pipeline`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fastcifar.augment import Augment
from fastcifar.data.dataset import Dataset
from fastcifar.kernels.reference import OUT_DTYPES
from fastcifar.pipeline import Pipeline
from fastcifar.system.devices import device_named
from fastcifar.system.foreign import said
from fastcifar.system.scratch import Scratch
from fastcifar.testing import images, lifetime, samples
from fastcifar.testing.case import LEAST as LEAST
from fastcifar.testing.case import Case
from fastcifar.testing.case import ContractBroken as ContractBroken
from fastcifar.testing.case import synthetic_dataset as synthetic_dataset

CLAUSES: dict[str, Callable[[Case], bool]] = {
    "batches that the caller keeps stay as they were": images.kept_batches,
    "training epochs are permutations of the split, which repeat, and differ with epoch and seed": samples.permutations,
    "evaluation gives each sample once, in order": samples.evaluation,
    "the options split_seed, subset and shuffle are followed": samples.selection,
    "a short last batch is kept or dropped as drop_last says": samples.last_batch,
    "images have the dtype, the device and channels_last memory, labels and ids are int64": images.layout,
    "labels are those of the dataset": samples.labels,
    "pixels are the reference's, to rounding or to the deviation that the pipeline states": images.pixels,
    "augment_seed changes the augmentation and not the order": images.views,
    "the same request gives the same batches, bit by bit": images.repeatable,
    "no global generator of random numbers is used": lifetime.global_state,
    "an epoch that begins in its middle goes on with the same batches": samples.start_in_the_middle,
    "processes share each batch, and have together what one process has": samples.shares,
    "a new epoch may begin before the one before has ended": lifetime.one_at_a_time,
    "leaving epochs early and closing leaves nothing behind": lifetime.leaves_nothing,
    "a pipeline may be closed twice, and then raises UsageError": lifetime.closing,
    "an error of a worker reaches the caller": lifetime.errors,
}
"""The clauses of the contract, in the order in which they are checked."""


@dataclass(frozen=True)
class Report:
    """The result of `check_pipeline`: all clauses hold that could be checked."""

    pipeline: str
    checked: tuple[str, ...]
    """The clauses that hold."""
    skipped: tuple[tuple[str, str], ...]
    """The clauses, or parts of them, that were not applicable, each with the reason."""

    def __str__(self) -> str:
        held = [f"holds: {clause}" for clause in self.checked]
        return "\n".join([f"pipeline {self.pipeline}", *held, *(f"not checked: {a} ({b})" for a, b in self.skipped)])


def check_pipeline(
    pipeline: str | type[Pipeline],
    dataset: Dataset | None = None,
    recipes: Sequence[str | Augment] = ("none", "standard", "erasing"),
    *,
    dtypes: Sequence[torch.dtype] = OUT_DTYPES,
    device: str = "cpu",
    workers: int | None = None,
) -> Report:
    """Check that a pipeline keeps the contract (`Pipeline`), clause by clause, and return what was checked.

    pipeline: a name or a class, as `open_pipeline` takes it. dataset: a dataset with at least LEAST training images;
    None: a small synthetic one, in every format that can be written here. recipes: their pixels are compared with the
    reference's, in each dtype. Clauses that need random numbers use the last recipe that the pipeline does not refuse.
    device: as for --device. workers: as for `open_pipeline`; None: the pipeline's own number.

    Raises ContractBroken for the first clause that does not hold, and UsageError for a pipeline that cannot be found or
    cannot run here, and for a dataset that is too small.
    """
    with Scratch() as folder:
        chosen = synthetic_dataset(Path(folder) / "synthetic") if dataset is None else dataset
        case = Case(pipeline, chosen, recipes, tuple(dtypes), device_named(device), workers, Path(folder))
        checked = []
        for case.clause, check in CLAUSES.items():
            try:
                applied = check(case)
            except ContractBroken:
                raise
            except Exception as error:  # a pipeline may raise anything
                raise ContractBroken(f"pipeline {case.name}: {case.clause}: it raises {said(error)}") from error
            if applied:
                checked.append(case.clause)
        return Report(case.name, tuple(checked), tuple(case.skipped))
