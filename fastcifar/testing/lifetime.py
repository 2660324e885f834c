"""The clauses on a pipeline's life: what it leaves alone, what it leaves behind, and how it ends.

A clause returns whether it was applicable, and raises ContractBroken where it does not hold.
"""

import gc
import os
import threading
import time
from multiprocessing import active_children
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.rng.generators import states
from fastcifar.testing.case import Case, synthetic_dataset

LEFT_EARLY = 40  # epochs that one pipeline leaves at their first batch
LEAKED_BYTES = 20 << 20  # memory that may come and go for other reasons
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


def leaks(case: Case) -> bool:
    def use(epochs: int) -> None:
        with case.open(batch_size=8) as pipeline:
            for k in range(epochs):
                next(iter(pipeline.epoch(k)))

    proc = Path("/proc/self")

    def held() -> dict[str, int]:
        counts = {"threads": threading.active_count(), "processes": len(active_children())}
        return counts | ({"open files": len(os.listdir(proc / "fd"))} if proc.is_dir() else {})

    def memory() -> int:
        return int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if proc.is_dir() else 0

    if not proc.is_dir():
        case.skip("open files and memory: this system has no /proc")
    use(3)
    gc.collect()
    before, bytes_before = held(), memory()
    for _ in range(5):
        use(LEFT_EARLY)
    gc.collect()
    until = time.monotonic() + 5
    while any(count > before[name] for name, count in held().items()) and time.monotonic() < until:
        time.sleep(0.01)  # threads and processes take a moment to end
    for name, count in held().items():
        case.require(count <= before[name], f"{count - before[name]} {name} are left after five pipelines were closed")
    grown = memory() - bytes_before
    case.require(grown < LEAKED_BYTES, f"five pipelines left {grown >> 20} MiB of memory behind")
    return True


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
