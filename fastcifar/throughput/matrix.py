"""Which contestants there are: pipelines × recipes × batch sizes × dtypes × devices × networks."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from fastcifar.augment import IMAGE_SIZE, RECIPES
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.data.formats import FORMATS, extra_formats
from fastcifar.errors import UsageError
from fastcifar.pipeline import pipeline_names
from fastcifar.runs.spec import PRECISIONS
from fastcifar.system.devices import device_named
from fastcifar.system.machine import usable_cores
from fastcifar.throughput.contestant import REPLAY, Contestant
from fastcifar.throughput.networks import NETWORKS


@dataclass(frozen=True)
class Matrix:
    """What is asked for. Raises UsageError for a name that does not exist or what does not go together."""

    pipelines: Sequence[str]
    """names, all where there are none; those that cannot run here get a row that says why"""
    recipes: Sequence[str]
    batch_sizes: Sequence[int]
    devices: Sequence[str]
    models: Sequence[str] = ()
    """networks that are trained on the batches; none: the pipelines run alone"""
    dtypes: Sequence[str] = ("float32",)
    """of the pixels"""
    threads: int | None = None
    """CPU cores for each contestant; None: all that are usable"""

    def __post_init__(self) -> None:
        _known("pipeline", self.pipelines, pipeline_names())
        _known("recipe", self.recipes, list(RECIPES))
        _known("network", self.models, NETWORKS)
        _known("dtype", self.dtypes, list(PRECISIONS))
        for device in self.devices:
            device_named(device)
        if not (self.recipes and self.batch_sizes and self.devices and self.dtypes):
            raise UsageError("nothing to time: name at least one recipe, batch size, device and dtype")
        if self.threads is not None and not 1 <= self.threads <= usable_cores():
            raise UsageError(f"--threads {self.threads}: there are 1 to {usable_cores()} cores to use here")
        for recipe in self.recipes if self.models else ():
            if RECIPES[recipe].out_size != IMAGE_SIZE:
                raise UsageError(
                    f"recipe {recipe!r} does not make the {IMAGE_SIZE} x {IMAGE_SIZE} images of the networks"
                )

    def heats(self, dataset: Dataset) -> list[list[Contestant]]:
        """The contestants of each heat; where a network is trained, one of them replays."""
        names = list(self.pipelines) or pipeline_names()
        devices = dict.fromkeys(str(device_named(device)) for device in self.devices)
        return [
            [
                Contestant(
                    pipeline=name,
                    recipe=recipe,
                    batch_size=batch_size,
                    device=device,
                    dtype=dtype,
                    threads=self.threads or usable_cores(),
                    data=str(dataset.path.absolute()),
                    model=model,
                )
                for name in ([REPLAY, *names] if model else names)
            ]
            for device, model, recipe, batch_size, dtype in product(
                devices, self.models or (None,), *map(dict.fromkeys, (self.recipes, self.batch_sizes, self.dtypes))
            )
        ]


def _known(what: str, asked: Sequence[str], known: Sequence[str]) -> None:
    for name in asked:
        if name not in known:
            raise UsageError(f"{what} {name!r} does not exist; there are {', '.join(known)}")


@contextmanager
def opened(path: Path | None, count: int) -> Iterator[Dataset]:
    """The dataset at ``path``; without one, ``count`` synthetic images in every form that can be written here, in a
    folder that is gone afterwards.
    """
    if path is not None:
        yield Dataset.open(path)
        return
    with tempfile.TemporaryDirectory(prefix="fastcifar-bench-") as folder:
        yield convert(f"synthetic:{count}", Path(folder) / "synthetic", [form for form in FORMATS if _writable(form)])


def _writable(form: str) -> bool:
    try:
        extra_formats([form])
    except UsageError:  # a pipeline that reads this form then says what it lacks, in its row
        return False
    return True
