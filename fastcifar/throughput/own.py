"""One's own loader as a contestant: any iterable of batches that a function of one's own returns."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import Batch, Pipeline, Request
from fastcifar.system import foreign, shm
from fastcifar.throughput.recognise import Recogniser
from fastcifar.throughput.verify import Verification

FORM = "FILE.py:FUNCTION or package.module:FUNCTION"
TAKES = "make(dataset_path, batch_size, device) or make()"


def function_of(name: str) -> Callable[..., Any]:
    """Return the function of a loader by its name, FILE.py:FUNCTION or package.module:FUNCTION.

    Raises UsageError for a file, module or function that does not exist, an import that fails, or other arguments than
    those of TAKES.
    """
    module_name, _, wanted = name.rpartition(":")
    what = f"loader {name!r}"
    if not (module_name and wanted):
        raise UsageError(f"{what} is not of the form {FORM}")
    module = foreign.imported(module_name, what)
    functions = foreign.public(
        module, lambda value: callable(value) and getattr(value, "__module__", None) == module.__name__
    )
    if not hasattr(module, wanted):
        raise UsageError(f"{what}: {module_name} has no {wanted!r}; {foreign.nearest(wanted, functions)}")
    function = getattr(module, wanted)
    if not callable(function):
        raise UsageError(f"{what} is {function!r:.60}, which cannot be called; write a function {TAKES}")
    if not (_takes(function, 3) or _takes(function, 0)):
        raise UsageError(f"{what} takes {inspect.signature(function)}; write {TAKES}")
    return function  # type: ignore[no-any-return]


class OwnLoader(Pipeline):
    """One's own loader as a pipeline, whose order and pixels are its own.

    Batches are moved to the request's device, and converted to its dtype and to channels_last, as a training loop would
    do it.
    """

    def __init__(self, name: str, dataset: Dataset, request: dict[str, Any]) -> None:
        """Call the function.

        Raises the errors of `function_of`, and FastcifarError where the function raises or returns nothing that can be
        iterated over.
        """
        super().__init__(Request(dataset, **request))
        self.name, self._function = name, function_of(name)
        path = str(dataset.path.absolute())
        self._arguments = (path, self.request.batch_size, str(self.request.device)) if _takes(self._function, 3) else ()
        self._ready: Any = self._made()  # what the next epoch iterates over; None after the one pass of a generator
        self._recogniser = Recogniser(self.request)

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of a pass over the loader.

        Raises FastcifarError where the loader raises, yields no batch, or yields something else than batches.
        """
        if start:
            raise UsageError(f"loader {self.name!r} cannot begin at batch {start}")
        images = 0
        try:
            loader = self._ready if self._ready is not None else self._made()
            batches = iter(loader)
            self._ready = None if batches is loader else loader
            for content in batches:
                batch = self._batch(content, images)
                images += len(batch.labels)
                yield batch
        except FastcifarError:
            raise
        except Exception as error:  # foreign code raises errors of any kind
            full = f"; start the container with {shm.cure()}" if shm.is_lacking(error) else ""
            raise FastcifarError(f"it raises {foreign.said(error)}{foreign.place_of(error)}{full}") from error
        if not images:
            raise FastcifarError("it yields no batch; the function must return a loader with at least one batch")

    def verified(self, seen: Mapping[int, Sequence[Batch]], kept: Batch) -> Verification:
        """Verify the batches of a turn as far as they can be verified: see `recognise`.

        seen: the batches of each epoch, without images. kept: one batch with images.
        """
        return self._recogniser.check(seen, kept)

    def close(self) -> None:
        self._ready = None

    def _made(self) -> Any:
        try:
            made = self._function(*self._arguments)
        except Exception as error:  # foreign code raises errors of any kind
            raise FastcifarError(f"the function raises {foreign.said(error)}{foreign.place_of(error)}") from error
        if not (hasattr(made, "__iter__") or hasattr(made, "__getitem__")):
            raise FastcifarError(f"the function returns {made!r:.60}; return an iterable of (images, labels)")
        return made

    def _batch(self, content: Any, before: int) -> Batch:
        """Return what the loader yields as a Batch. before: the number of images before it in this epoch."""
        if not isinstance(content, (tuple, list)) or len(content) not in (2, 3):
            size = f" of {len(content)}" if isinstance(content, (tuple, list, dict)) else ""
            raise FastcifarError(
                f"it yields {type(content).__name__}{size}, no batch; yield (images, labels) or (images, labels, ids)"
            )
        try:
            images, labels, *rest = (torch.as_tensor(part) for part in content)
        except (TypeError, ValueError, RuntimeError) as error:
            raise FastcifarError(
                f"it yields no tensors ({error}); yield images (B, 3, S, S) and labels (B,)"
            ) from error
        if images.dim() != 4 or images.shape[1] != 3 or labels.shape[:1] != images.shape[:1] or labels.dim() > 2:
            raise FastcifarError(
                f"it yields images {tuple(images.shape)} and labels {tuple(labels.shape)}; yield images (B, 3, S, S) "
                "and labels (B,)"
            )
        if rest and (rest[0].shape != images.shape[:1] or rest[0].is_floating_point()):
            raise FastcifarError(
                f"its third item is {rest[0].dtype} {tuple(rest[0].shape)}, no ids; yield ids (B,), the rows of the "
                "samples in the dataset's arrays, or leave them out"
            )
        self._recogniser.note(images, bool(rest))
        device = self.request.device
        if labels.dim() == 2:  # probabilities, as of MixUp
            labels = labels.argmax(1)
        ids = rest[0] if rest else torch.arange(before, before + len(images))
        images = images.to(device, self.request.dtype, non_blocking=True, memory_format=torch.channels_last)
        return Batch(images, *(part.to(device, torch.int64, non_blocking=True) for part in (labels, ids)))


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # a function without a signature, written in C
        return count == 0
    return True


def kept(batch: Batch) -> Batch:
    """Return a batch with images of its own, as a loader may use the memory again."""
    images: Tensor = batch.images.clone()
    return batch._replace(images=images)
