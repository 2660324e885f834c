"""Pipelines from outside the package: a class, a module of the current directory, and an installed package."""

import inspect

import torch
from fastcifar.kernels import reference

from fastcifar.augment import draw
from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline


class Plain(Pipeline):
    """The reference's pixels, one batch at a time."""

    forms = ("", "slow")
    shares = True
    closed = False

    def epoch(self, k, start=0):
        self.check()
        request = self.request
        order = self.order(k)
        for first in range(start * request.share, len(self) * request.share, request.share):
            yield self.batch(order[first : first + request.share], k)
            self.check()

    def order(self, k):
        return self.request.order(k)

    def batch(self, rows, k):
        request, part = self.request, self.request.dataset.part(self.request.split)
        draws = draw(request.augment, request.draw_seed, k, rows)
        stored = torch.from_numpy(request.dataset.images(part)[rows])
        labels = torch.from_numpy(request.dataset.labels(part)[rows].astype("int64"))
        images = reference.apply(stored, draws, request.augment, request.dtype)
        return Batch(images, labels, torch.from_numpy(rows.copy()))

    def check(self):
        if self.closed:
            raise UsageError("this pipeline is closed; open another one")

    def close(self):
        self.closed = True


OWN = f"""
import torch
from fastcifar.kernels import reference
from fastcifar.augment import draw
from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline


{inspect.getsource(Plain)}

PIPELINE = Plain
"""
"""The source of a module with Plain as its pipeline."""


def install(folder, name, *points):
    """Write the metadata of an installed package with pipelines ("NAME = module:Class") into a folder of sys.path."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = "\n".join(["[fastcifar.pipelines]", *points, ""])
    (metadata / "entry_points.txt").write_text(lines, encoding="utf-8")
