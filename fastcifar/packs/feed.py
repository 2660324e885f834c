"""The batches of a pack's runs. Runs whose batches are equal form a group, and a group's batches are made once.

Shape suffixes: G groups of runs that see the same batches, B batch.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from fastcifar.data.dataset import Dataset
from fastcifar.pipeline import Batch, Pipeline, Renderer, Request, open_pipeline


@dataclass(frozen=True)
class PixelSource:
    """The pipeline of a group of runs, and the number of epochs that these runs had finished when the pack began."""

    pipeline: Pipeline
    start: int


class Feed(Pipeline):
    """A pipeline of all groups' batches: images (G, B, 3, S, S), labels and ids (G, B). ``which``: each run's group.

    Epochs are counted from the beginning of the pack: epoch k is the k-th epoch of each run since then.
    """

    def __init__(self, sources: Sequence[PixelSource], which: Sequence[int]) -> None:
        super().__init__(sources[0].pipeline.request)
        self._sources, self.which = list(sources), list(which)

    @classmethod
    def open(cls, name: str, dataset: Dataset, asked: Sequence[Mapping[str, Any]], behind: Sequence[int]) -> "Feed":
        """Open one pipeline for each group of runs. name: the pipeline's name.

        asked: each run's arguments of `open_pipeline`. behind: each run's number of finished epochs. Raises what
        `open_pipeline` raises.
        """
        opened: dict[tuple[Any, ...], PixelSource] = {}
        keys = [_key(Request(dataset, **request), epochs) for request, epochs in zip(asked, behind, strict=True)]
        with contextlib.ExitStack() as undo:
            for key, request, epochs in zip(keys, asked, behind, strict=True):
                if key not in opened:
                    pipeline = undo.enter_context(open_pipeline(name, dataset, **request))
                    opened[key] = PixelSource(pipeline, epochs)
            undo.pop_all()
        places = list(opened)
        return cls(list(opened.values()), [places.index(key) for key in keys])

    def keep(self, runs: Sequence[int]) -> None:
        """Keep only these runs, given by their present indices, and close the pipelines that no run needs any more."""
        groups = sorted({self.which[run] for run in runs})
        for group, source in enumerate(self._sources):
            if group not in groups:
                source.pipeline.close()
        self._sources = [self._sources[group] for group in groups]
        self.which = [groups.index(self.which[run]) for run in runs]
        if self._sources:
            self.request = self._sources[0].pipeline.request

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        streams = [source.pipeline.epoch(source.start + k, start) for source in self._sources]
        for batches in zip(*streams, strict=True):
            yield stacked(batches)

    def clock(self, k: int) -> Tensor:
        """Return (G, 3): each group's clock at the beginning of the pack's epoch k."""
        return torch.stack([source.pipeline.clock(source.start + k) for source in self._sources])

    def renderer(self) -> Renderer | None:
        renderers = [source.pipeline.renderer() for source in self._sources]
        known = [renderer for renderer in renderers if renderer is not None]
        if len(known) < len(renderers):
            return None
        return Renderers(known, [source.start for source in self._sources])

    def close(self) -> None:
        for source in self._sources:
            source.pipeline.close()


class Renderers(Renderer):
    """The renderers of all groups. Batches, orders and clocks have a leading dimension G. Groups of one recipe share
    launches.
    """

    def __init__(self, renderers: Sequence[Renderer], starts: Sequence[int]) -> None:
        """starts: the number of epochs that each group had finished before the pack's first."""
        self._renderers, self._starts = list(renderers), list(starts)
        kinds = [renderer.kind for renderer in renderers]
        device = renderers[0].clock(0).device
        self._alike = [
            (
                renderers[kinds.index(kind)],
                torch.tensor([n for n, own in enumerate(kinds) if own == kind], device=device),
            )
            for kind in dict.fromkeys(kinds)
        ]

    def order(self, epoch: int) -> Tensor:
        return torch.stack([renderer.order(start + epoch) for renderer, start in self._each()])

    def clock(self, epoch: int) -> Tensor:
        return torch.stack([renderer.clock(start + epoch) for renderer, start in self._each()])

    def empty(self, n: int) -> Batch:
        return stacked([renderer.empty(n) for renderer in self._renderers])

    def render(self, order: Tensor, clock: Tensor, out: Batch) -> None:
        for renderer, groups in self._alike:
            renderer.render_groups(groups, order, clock, out)

    def _each(self) -> Iterator[tuple[Renderer, int]]:
        return zip(self._renderers, self._starts, strict=True)


def stacked(batches: Sequence[Batch]) -> Batch:
    """Stack batches along a new leading dimension. A single batch is not copied. Images stay channels_last."""
    if len(batches) == 1:
        return Batch(*(part[None] for part in batches[0]))
    images = torch.stack([batch.images.permute(0, 2, 3, 1) for batch in batches]).permute(0, 1, 4, 2, 3)
    labels, ids = (torch.stack(parts) for parts in list(zip(*batches, strict=True))[1:])
    return Batch(images, labels, ids)


def _key(request: Request, epochs: int) -> tuple[Any, ...]:
    """Return a key that is equal for runs of one dataset whose batches are equal.

    The seed and the finished epochs count only where batches are shuffled or augmented at random.
    """
    given = [getattr(request, field.name) for field in fields(request) if field.name not in ("dataset", "seed")]
    drawn = (request.seed, epochs) if request.shuffles or request.augment.random else ()
    return (*given, *drawn)
