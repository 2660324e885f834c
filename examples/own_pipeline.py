"""Your own pipeline in fastcifar's commands and in the Loader, checked by the contract of all pipelines.

    python examples/own_pipeline.py                                             # check it
    fastcifar train --exp 2 --data data/cifar10 --pipeline examples.own_pipeline

The pipeline makes each batch when it is needed, in the caller's thread, by the definition of the pixels. A package can
offer its pipeline under a short name, as an entry point of the group fastcifar.pipelines.
"""

from collections.abc import Iterator

import torch
from fastcifar.kernels import reference

from fastcifar.augment import draw
from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline, Request


class Plain(Pipeline):
    """A pipeline without threads. It is slow, and exact."""

    shares = True

    def __init__(self, request: Request, form: str = "") -> None:
        super().__init__(request, form)
        part = request.dataset.part(request.split)
        labels = request.dataset.labels(part)
        self._images = torch.from_numpy(request.dataset.images(part).copy())
        self._labels = None if labels is None else torch.from_numpy(labels.astype("int64"))
        self._closed = False

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        asked, order = self.request, self.request.order(k)
        for first in range(start * asked.share, len(self) * asked.share, asked.share):
            if self._closed:
                raise UsageError("this pipeline is closed; open another one")
            ids = order[first : first + asked.share]
            draws, rows = draw(asked.augment, asked.draw_seed, k, ids), torch.from_numpy(ids)
            images = reference.apply(self._images[rows], draws, asked.augment, asked.dtype)
            labels = torch.full_like(rows, -1) if self._labels is None else self._labels[rows]
            yield Batch(images.to(asked.device), labels.to(asked.device), rows.to(asked.device))

    def close(self) -> None:
        self._closed = True


PIPELINE = Plain

if __name__ == "__main__":
    from fastcifar.testing import check_pipeline

    print(check_pipeline(Plain))
