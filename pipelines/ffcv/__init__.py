"""FFCV: its reader for the dataset's ``.beton`` files, with our kernel or with FFCV's own operations.

In the plain form FFCV reads the images in our order, and our kernel augments them. In the form ``stock`` FFCV's
operations augment them.
"""

import time
from collections.abc import Iterator
from ctypes import CDLL
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from fastcifar.augment import REFLECTED
from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline, Request
from fastcifar.system import cures

INSTALL = cures.extra("ffcv")


class FfcvPipeline(Pipeline):
    """The pipeline ``ffcv``. The plain form gives the reference's bits.

    The form ``stock`` equals the reference to rounding as long as the recipe draws no random numbers.

    Where the recipe draws, ``stock`` uses FFCV's random numbers, which no seed controls. Flips and strengths differ
    from ours and from run to run, while ids, order and labels are those of every pipeline. The colour operations have a
    fixed order (brightness, contrast, saturation), and each result is rounded down to 8 bits.

    Only one epoch at a time is possible: beginning an epoch ends the one before.
    """

    forms = ("", "stock")
    shares = True

    def __init__(self, request: Request, form: str = "", workers: int | None = None) -> None:
        """Open the file, and compile FFCV's operations.

        workers: threads that make pixels, by default torch.get_num_threads(). One more thread reads ahead. In the plain
        form any number of workers gives the same batches. Raises UsageError where FFCV does not load.
        """
        super().__init__(request, form)
        try:
            from fastcifar.pipelines.ffcv.reading import Reader
        except ImportError as error:
            raise UsageError(f"FFCV does not load ({error}): {INSTALL}") from error
        if form == "stock" and request.augment.random:
            self.differs = "FFCV's own draws; colour parts in a fixed order, each rounded to 8 bits"
            if request.augment.cutout:
                self.differs += "; the cutout lies wholly in the image, and has the mean colour rounded to 8 bits"
        start = time.perf_counter()
        self._reader: Reader | None = Reader(request, form, workers or torch.get_num_threads())
        list(self._reader.read(request.ids[:1], 0))
        self.build_seconds = time.perf_counter() - start
        """The seconds that it took to open the file and to compile FFCV's operations, which each process does once."""

    @classmethod
    def missing(cls, form: str) -> str | None:
        """Return why FFCV cannot be used here and the cure, or None.

        This loads FFCV's library, which needs OpenCV's, but does not import FFCV, as that takes seconds.
        """
        package = find_spec("ffcv")
        if package is None or not package.submodule_search_locations:
            return f"FFCV is not installed: {INSTALL}"
        try:
            for library in Path(package.submodule_search_locations[0]).glob("_libffcv*.so"):
                CDLL(str(library))
        except OSError as error:
            rebuild = "pip install --force-reinstall --no-deps --no-cache-dir ffcv"
            return f"FFCV does not load ({error}); install that library, or rebuild FFCV: {rebuild}"
        return None

    @classmethod
    def refuses(cls, request: Request, form: str) -> str | None:
        dataset, spec = request.dataset, request.augment
        name = f"ffcv/{dataset.part(request.split)}.beton"
        if name not in dataset.manifest["files"]:
            return f"{dataset.path} has no {name}; {dataset.cure_for_format('ffcv')}"
        beyond = {
            "hue": spec.hue, "rotation": spec.rotate, "erasing after normalising": spec.erase, "size": spec.size,
            "a reflected crop": spec.crop and spec.crop_fill == REFLECTED, "alternating flips": spec.alternates,
        }  # fmt: skip
        parts = [part for part, value in beyond.items() if value]
        if form == "stock" and parts:
            return f"FFCV has no operation of its own for {', '.join(parts)}; the pipeline 'ffcv' does it by our kernel"
        return None

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        if self._reader is None:
            raise UsageError("this pipeline is closed; open another one")
        share = self.request.share
        order = self.request.order(k)[start * share : len(self) * share]
        if not len(order):
            return
        reading: Any = self._reader.read(order, k)
        try:
            for batch in reading:
                yield batch
                if self._reader is None or self._reader.reading is not reading:
                    raise UsageError("this epoch is over, as another was begun or the pipeline closed; begin it again")
        finally:
            reading.stop()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


PIPELINE = FfcvPipeline
