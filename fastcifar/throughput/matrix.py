"""The contestants: the product of pipelines, recipes, batch sizes, dtypes, devices and networks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from fastcifar.augment import IMAGE_SIZE
from fastcifar.data.dataset import HELD_OUT, Dataset
from fastcifar.errors import UsageError, unknown
from fastcifar.pipeline.names import check_pipeline
from fastcifar.recipes import recipe
from fastcifar.runs.spec import PRECISIONS
from fastcifar.system import foreign
from fastcifar.system.launch import check_device
from fastcifar.system.machine import usable_cores
from fastcifar.system.scratch import Scratch
from fastcifar.throughput.contestant import NETWORKS, REPLAY, Contestant


@dataclass(frozen=True)
class Matrix:
    """The options of a benchmark. Raises UsageError for an unknown name and for options that exclude each other."""

    pipelines: Sequence[str]
    """Names of pipelines; empty: all. A pipeline that cannot run here gets a row with the reason."""
    recipes: Sequence[str]
    batch_sizes: Sequence[int]
    devices: Sequence[str]
    models: Sequence[str] = ()
    """The networks that train on the batches; empty: the pipelines run alone."""
    dtypes: Sequence[str] = ("float32",)
    """The dtypes of the pixels."""
    threads: int | None = None
    """The number of CPU cores for each contestant; None: all usable cores."""
    loaders: Sequence[str] = ()
    """One's own loaders, as `own.function_of` takes them. With them, no pipelines means resident alone."""

    def __post_init__(self) -> None:
        for name in self.pipelines:
            check_pipeline(name)
        _known("network", self.models, NETWORKS)
        _known("dtype", self.dtypes, PRECISIONS)
        for device in self.devices:
            check_device(device)
        if not (self.recipes and self.batch_sizes and self.devices and self.dtypes):
            raise UsageError("nothing to time: name at least one recipe, batch size, device and dtype")
        if self.threads is not None and not 1 <= self.threads <= usable_cores():
            raise UsageError(f"--threads {self.threads} is outside [1, {usable_cores()}]; choose another number")
        for name in self.recipes:
            if recipe(name).out_size != IMAGE_SIZE and self.models:
                raise UsageError(
                    f"recipe {name!r} makes no {IMAGE_SIZE} x {IMAGE_SIZE} images, as networks need; choose another"
                )
        for name in self.loaders:
            if ":" in name:
                foreign.require(name.rpartition(":")[0], f"loader {name!r}")  # before torch is imported
            from fastcifar.throughput.own import function_of

            function_of(name)

    def require_full_batches(self, data: Path | None, count: int) -> None:
        """Raise UsageError for a batch size of which not even one batch can be made. data, count: as for `opened`."""
        images, name = count - count // HELD_OUT, f"the {count:,} synthetic images"
        if data is not None:
            dataset = Dataset.open(data)
            images, name = len(dataset.ids("training")), str(data)
        for size in self.batch_sizes:
            if size > images:
                raise UsageError(
                    f"batch size {size} is larger than the {images:,} training images of {name}; choose at most "
                    f"--batch-sizes {images}"
                )

    def heats(self, dataset: Dataset) -> list[list[Contestant]]:
        """Return the contestants of each heat. A heat with a network has a REPLAY contestant, too.

        Raises UsageError for a device that this machine does not have.
        """
        from fastcifar.pipeline import pipeline_names
        from fastcifar.system.devices import device_named

        names = list(self.pipelines) or (["resident"] if self.loaders else pipeline_names())
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
                    own=name in self.loaders,
                )
                for name in [*([REPLAY] if model else []), *names, *self.loaders]
            ]
            for device, model, recipe, batch_size, dtype in product(
                devices, self.models or (None,), *map(dict.fromkeys, (self.recipes, self.batch_sizes, self.dtypes))
            )
        ]


def _known(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)


@contextmanager
def opened(path: Path | None, count: int) -> Iterator[Dataset]:
    """Open the dataset at ``path``. If path is None, make a temporary dataset of ``count`` synthetic images.

    The temporary dataset has every format that can be written here, and is removed afterwards.
    """
    if path is not None:
        yield Dataset.open(path)
        return
    from fastcifar.testing import synthetic_dataset

    with Scratch() as folder:
        yield synthetic_dataset(Path(folder) / "synthetic", count)
