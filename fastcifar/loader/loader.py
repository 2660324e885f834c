"""The loader for anyone's own training loop: batches of any pipeline, as an iterable with a state."""

import hashlib
import weakref
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastcifar.augment import Augment
from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.loader.arguments import (
    MOST_EPOCHS,
    MOST_IMAGES,
    MOST_SEED,
    MOST_VIEWS,
    MOST_WORKERS,
    place_of,
    subset_of,
    view_seed,
)
from fastcifar.loader.transform import Seeded, Transform
from fastcifar.pipeline import Batch, Pipeline, Request, open_pipeline, require_pipeline
from fastcifar.pipeline.arguments import augment_of, dataset_of, dtype_of, whole_number, yes_or_no
from fastcifar.system.devices import device_named


class Loader:
    """An iterable over the batches of a dataset's split. Each ``for`` loop is the next epoch.

    A batch is (images, labels): images (B, 3, S, S) in ``dtype``, channels_last, on ``device``, augmented for each
    sample; labels (B,) int64 on ``device``. Batches may be kept; nothing is written to their memory again.

    An epoch begins with the first ``next``, not with ``iter``. Its batches are a pure function of the arguments and of
    its number: no number of threads, no interruption and no other use of random numbers changes them. Only one epoch is
    active at a time: a new one ends the one before.
    """

    def __init__(
        self,
        dataset: Dataset | str | Path,
        split: str = "training",
        *,
        augment: Augment | str = "none",
        batch_size: int = 128,
        pipeline: str | type[Pipeline] = "resident",
        device: torch.device | str = "auto",
        dtype: torch.dtype | str = "float32",
        seed: int = 0,
        shuffle: bool | None = None,
        drop_last: bool = False,
        ids: Sequence[int] | NDArray[np.int64] | Tensor | None = None,
        split_seed: int | None = None,
        with_ids: bool = False,
        views: int = 1,
        transform: Transform | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        workers: int | None = None,
    ) -> None:
        """Check the arguments. The pipeline is opened when the first epoch begins.

        dataset: a Dataset, or the path of a dataset directory. split: training (or train), validation (or val),
        labelled (both of these) or test. augment: an Augment, or a recipe such as "standard" or "flip=0.5,crop=4".
        batch_size: the samples of a batch, of all processes together. pipeline: a name of `fastcifar list pipelines`,
        ``package.module`` of your own, or a class derived from fastcifar.Pipeline.
        device: "auto", "cpu", "cuda", "cuda:N" or a torch.device. dtype: float32, bfloat16 or float16. seed: the seed
        of order and augmentation, in [0, 2**64). shuffle: whether each epoch has a new order; None: only if the split
        is training. drop_last: whether to leave out a short last batch. ids: only these samples of the split (their
        rows in the dataset's arrays), each once. split_seed: the seed to redraw the 4:1 split with. workers: the
        threads or processes of the pipeline; None: as many as torch's threads.

        with_ids: give (images, labels, ids) with ids (B,) int64. views: the number of independently augmented versions
        of each image; for more than one, images are a tuple of so many tensors. transform: a callable on the batch on
        the device, which is given the images or, where it takes two arguments, the images and the labels. It may use
        the global random generators of torch, numpy and Python. They are seeded by (seed, epoch, batch) before it
        runs, and are as before afterwards.

        rank, world_size: this process and the number of processes that share each batch; None: those of
        torch.distributed, read when an epoch begins. Together the processes have the batches of one process. In
        evaluation no sample is repeated, so that a process may have one batch less; a shuffled epoch whose short last
        batch cannot be shared equally raises UsageError.

        Raises UsageError for arguments that are wrong or do not fit together.
        """
        self.dataset = dataset_of(dataset)
        self._place = place_of(rank, world_size)
        seed = whole_number("seed", seed, 0, MOST_SEED)
        self._request: dict[str, Any] = {
            "split": split,
            "augment": augment_of(augment),
            "batch_size": whole_number("batch_size", batch_size, 1, MOST_IMAGES),
            "seed": seed,
            "device": device_named(str(device)),
            "dtype": dtype_of(dtype),
            "shuffle": None if shuffle is None else yes_or_no("shuffle", shuffle),
            "drop_last": yes_or_no("drop_last", drop_last),
            "split_seed": None if split_seed is None else whole_number("split_seed", split_seed, 0, MOST_SEED),
            "repeats": False,
        }
        self._pipeline_wanted = pipeline
        self._workers = None if workers is None else whole_number("workers", workers, 1, MOST_WORKERS)
        self._with_ids, self._views = yes_or_no("with_ids", with_ids), whole_number("views", views, 1, MOST_VIEWS)
        self._transform = None if transform is None else Seeded(transform, seed)
        self._whole = Request(self.dataset, **self._request)
        if ids is not None:
            self._request["subset"] = subset_of(ids, self._whole)
            self._whole = Request(self.dataset, **self._request)
        require_pipeline(pipeline, self._whole)
        self._epoch = self._handed = 0  # the epoch that is active or comes next, and its batches handed out
        self._loaded: tuple[int, int] | None = None  # the epoch and the batches of a loaded state, until they are used
        self._turn: object = None  # marks the iterator of the active epoch
        self._streams: list[Iterator[Batch]] = []  # the batches of the active epoch, for each view
        self._opened: tuple[tuple[int, int], list[Pipeline]] | None = None
        self._closing: weakref.finalize[Any, Any] | None = None
        self._closed, self._lock = False, RLock()

    @property
    def batch_size(self) -> int:
        """The samples of a batch, of all processes together."""
        return self._whole.batch_size

    @property
    def device(self) -> torch.device:
        """The device of the batches."""
        return self._whole.device

    @property
    def drop_last(self) -> bool:
        """Whether a short last batch is left out."""
        return self._whole.drop_last

    @property
    def epoch(self) -> int:
        """The number of the active epoch; between two epochs, of the next one. The first is 0."""
        return self._epoch

    def __len__(self) -> int:
        """Return the number of batches of an epoch in this process."""
        return self._shared().batches()

    def set_epoch(self, epoch: int) -> None:
        """Make the next ``for`` loop epoch number ``epoch`` (>= 0), from its first batch on.

        Right after `load_state_dict`, the epoch of the state goes on with the batch after those that the state counts;
        if it counts all of them, nothing is left of the epoch.
        """
        epoch = whole_number("epoch", epoch, 0, MOST_EPOCHS)
        handed = self._loaded[1] if self._loaded is not None and self._loaded[0] == epoch else 0
        self._epoch, self._handed, self._turn, self._loaded = epoch, handed, None, None

    def state_dict(self) -> dict[str, Any]:
        """Return the position as plain data: the epoch, the batches handed out, and what they depend on."""
        return {"epoch": self._epoch, "batch": self._handed, "depends_on": deepcopy(self._identity)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position: the next ``for`` loop gives the batch after those that the state counts.

        After the last batch of an epoch comes the first one of the next epoch. Raises UsageError for a state of a
        loader with other batches.
        """
        try:
            epoch, handed, identity = state["epoch"], state["batch"], dict(state["depends_on"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the state is not one of a Loader's state_dict(): {error!r}") from error
        theirs = _flat(identity)
        for name, value in _flat(self._identity).items():
            if value != theirs.get(name):
                raise UsageError(
                    f"the state is of a loader with {name} {theirs.get(name)}, but this one has {value}; make "
                    "the loader with the same arguments"
                )
        epoch = whole_number("the state's epoch", epoch, 0, MOST_EPOCHS)
        handed = whole_number("the state's batch", handed, 0, self._whole.batches())
        self._loaded, self._turn = (epoch, handed), None
        self._epoch, self._handed = (epoch, handed) if handed < len(self) else (epoch + 1, 0)

    def __iter__(self) -> Iterator[Any]:
        return _Epoch(self)

    def close(self) -> None:
        """End threads and processes, and release memory. It is safe to call this twice."""
        self._closed, self._turn = True, None
        self._release()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process needs; the copy opens a pipeline of its own."""
        state = self.__dict__ | {"_opened": None, "_closing": None, "_turn": None, "_streams": []}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=RLock())

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What the batches depend on, as plain data. It hashes all ids, so it is made once, not for each state."""
        whole = self._whole
        return {
            "dataset": self.dataset.sha256,
            "split": whole.split,
            "batch_size": whole.batch_size,
            "seed": whole.seed,
            "split_seed": whole.split_seed,
            "shuffle": whole.shuffles,
            "drop_last": whole.drop_last,
            "augment": {field: str(value) for field, value in asdict(whole.augment).items()},
            "ids": hashlib.sha256(whole.ids.tobytes()).hexdigest()[:16],
            "views": self._views,
        }

    def _shard(self) -> tuple[int, int]:
        if self._place is not None:
            return self._place
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1

    def _shared(self) -> Request:
        """Return the request of this process's share."""
        shard = self._shard()
        return self._whole if shard == (0, 1) else Request(self.dataset, **self._request, shard=shard)

    def _pipelines(self) -> list[Pipeline]:
        """Return the open pipeline of each view, for the processes that there are now."""
        if self._closed:
            raise UsageError("this loader is closed; make another one")
        shard = self._shard()
        if self._opened is not None and self._opened[0] == shard:
            return self._opened[1]
        self._release()
        request = self._shared()
        rest = 0 if request.drop_last else len(request.ids) % request.batch_size
        if request.shuffles and rest % shard[1]:
            raise UsageError(
                f"the last batch of an epoch has {rest} samples, which {shard[1]} processes cannot share equally; "
                f"choose drop_last=True, or a batch size that leaves a multiple of {shard[1]}"
            )
        options = self._request | {"shard": shard, "workers": self._workers}
        opened: list[Pipeline] = []
        self._closing = weakref.finalize(self, _close, opened)
        for view in range(self._views):
            seeds = {} if view == 0 else {"augment_seed": view_seed(request.seed, view)}
            opened.append(open_pipeline(self._pipeline_wanted, self.dataset, **options | seeds))
        self._opened = shard, opened
        return opened

    def _release(self) -> None:
        if self._closing is not None:
            self._closing()
        self._opened, self._closing, self._streams = None, None, []

    def _begin(self, turn: object) -> None:
        """Begin the next epoch for an iterator. An epoch that was left early counts as over."""
        if self._turn is not None:
            self._epoch, self._handed = self._epoch + 1, 0
        pipelines = self._pipelines()
        self._loaded = None
        self._streams, self._turn = [pipeline.epoch(self._epoch, self._handed) for pipeline in pipelines], turn

    def _next(self) -> Any:
        """Return the next batch of the active epoch. Raises StopIteration at its end, which ends the epoch.

        After another error the next loop goes on with the batch that failed.
        """
        try:
            return self._made([next(stream) for stream in self._streams])
        except StopIteration:
            self._epoch, self._handed, self._turn = self._epoch + 1, 0, None
            raise
        except BaseException:
            self._turn = None
            raise

    def _made(self, batches: list[Batch]) -> Any:
        """Return the batch for the caller. batches: the batch of each view."""
        images: Any = batches[0].images
        labels, ids = batches[0].labels, batches[0].ids
        if self._transform is not None or self._views > 1:
            views = [batch.images for batch in batches]
            if self._transform is not None:
                place = self._epoch, self._handed, self._shard()[0]
                views, labels = self._transform(views, labels, place)
            images = tuple(views) if self._views > 1 else views[0]
        self._handed += 1
        return (images, labels, ids) if self._with_ids else (images, labels)


class _Epoch:
    """The iterator of one ``for`` loop. Its epoch begins with the first ``next``."""

    def __init__(self, loader: Loader) -> None:
        self._loader, self._turn, self._over = loader, object(), False
        self._begun = False

    def __iter__(self) -> "_Epoch":
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        loader = self._loader
        with loader._lock:
            if self._over:
                raise StopIteration
            if not self._begun:
                loader._begin(self._turn)
                self._begun = True
            elif loader._turn is not self._turn:
                raise UsageError(
                    "this epoch is over, because another one was begun or set, an error ended it, or the loader was "
                    "closed; begin a new loop, and make a second Loader for two loops at once"
                )
            try:
                return loader._next()
            except StopIteration:
                self._over = True
                raise


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """Return an identity with the fields of ``augment`` beside the others."""
    augment = identity.get("augment")
    fields = augment if isinstance(augment, dict) else {}
    return {name: value for name, value in identity.items() if name != "augment"} | {
        f"augment {field}": value for field, value in fields.items()
    }


def _close(pipelines: list[Pipeline]) -> None:
    for pipeline in pipelines:
        pipeline.close()
