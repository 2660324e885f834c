"""The clauses on a pipeline's life: what it leaves alone, what it leaves behind, and how it ends.

A clause returns whether it was applicable, and raises ContractBroken where it does not hold.
"""

import gc
import os
import threading
import time
from multiprocessing import active_children
from pathlib import Path
from statistics import median
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.rng.generators import states
from fastcifar.testing import leaks
from fastcifar.testing.case import LEAST, Case, synthetic_dataset

LEFT_EARLY = 20  # measured epochs that one pipeline leaves at their first batch
PIPELINES = 6  # measured pipelines
KEPT_OF_A_BATCH = 0.5
"""The part of a batch by which memory may grow in an epoch that is left early: a leak of a batch an epoch exceeds it.
On a busy machine, DALI's allocators move it by up to a third of a batch, and its median over pipelines by a tenth."""
KEPT_BATCHES = 8
"""The batches by whose size memory may grow with a pipeline. A pipeline that is not closed keeps its dataset, its
threads and the batches that it made ahead; allocators move the slope by up to three batches."""
UNREADABLE = "these images cannot be read"


def global_state(case: Case) -> bool:
    before = states()
    case.epoch()
    case.require(states() == before, "an epoch draws from a global generator of Python, numpy or torch")
    return True


def one_at_a_time(case: Case) -> bool:
    first, second = case.epoch(0), case.epoch(1)
    with case.open() as pipeline:
        old = pipeline.epoch(0)
        next(old)
        new = pipeline.epoch(1)
        begun = next(new)
        try:
            later = next(old, None)
        except UsageError:
            pass
        else:
            case.require(
                later is not None, "an epoch that a new one ended stops in silence instead of raising UsageError"
            )
            case.require_equal([later] if later else [], first[1:2], "when a new epoch has begun")
        case.require_equal([begun, *new], second, "when the epoch before was left early")
    return True


def leaves_nothing(case: Case) -> bool:
    in_epochs: list[float] = []

    def use(_: int) -> None:
        with case.open(batch_size=LEAST) as pipeline:
            used = leaks.growth(lambda k: next(iter(pipeline.epoch(k))), LEFT_EARLY)
        in_epochs.append(leaks.slope(used))
        gc.collect()

    use(0)
    before = _held()
    between = leaks.growth(use, PIPELINES)
    until = time.monotonic() + 5
    while any(count > before[name] for name, count in _held().items()) and time.monotonic() < until:
        time.sleep(0.01)  # threads and processes take a moment to end
    for name, count in _held().items():
        left = count - before[name]
        case.require(left <= 0, f"{left} {name} are left after {PIPELINES + leaks.WARM_UP} pipelines were closed")
    if not leaks.measurable():
        case.skip("open files and memory: this system has no /proc")
        return True
    batch = sum(part.nbytes for part in case.epoch(batch_size=LEAST)[0])
    grown = median(in_epochs)
    case.require(
        grown < batch * KEPT_OF_A_BATCH,
        f"memory grows by {grown / 1e3:,.0f} kB with every epoch that is left early; a batch has {batch / 1e3:,.0f} kB",
    )
    grown = leaks.slope(between)
    case.require(
        grown < batch * KEPT_BATCHES,
        f"memory grows by {grown / 1e3:,.0f} kB with every pipeline that is opened and closed; a batch has "
        f"{batch / 1e3:,.0f} kB",
    )
    return True


def _held() -> dict[str, int]:
    """Return the numbers of threads, processes and, where the system tells it, open files of this process."""
    counts, files = {"threads": threading.active_count(), "processes": len(active_children())}, Path("/proc/self/fd")
    return counts | ({"open files": len(os.listdir(files))} if files.is_dir() else {})


def closing(case: Case) -> bool:
    with case.open() as pipeline:
        active = pipeline.epoch(0)
        next(active)
        pipeline.close()
        pipeline.close()
        case.require_usage_error(active, "an epoch of a closed pipeline")
        case.require_usage_error(iter(pipeline.epoch(0)), "a new epoch of a closed pipeline")
    return True


class _Unreadable(Dataset):
    """A dataset whose images cannot be read. It notes in its folder that somebody asked for them."""

    def images(self, part: str) -> Any:
        if not self.__dict__.get("ready"):  # Dataset.open looks at the images
            return super().images(part)
        (self.path / "asked").touch()
        raise FastcifarError(UNREADABLE)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unreadable, (self.path,)


def _unreadable(path: Path) -> _Unreadable:
    dataset = _Unreadable.open(path)
    assert isinstance(dataset, _Unreadable)
    dataset.__dict__["ready"] = True
    return dataset


def errors(case: Case) -> bool:
    dataset = _unreadable(synthetic_dataset(case.folder / "unreadable").path)
    error: Exception | None = None
    try:
        with case.open(dataset) as pipeline:
            list(pipeline.epoch(0))
    except Exception as raised:  # of whatever kind: its text must say what happened
        error = raised
    if not (dataset.path / "asked").exists():
        case.skip("it does not read images by Dataset.images, so that no error could be provoked")
        return False
    case.require(error is not None, "images that cannot be read raise no error")
    case.require(UNREADABLE in str(error), f"images that cannot be read raise {error!r}, which does not say why")
    return True
