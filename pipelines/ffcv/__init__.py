"""FFCV: its reader on the dataset's ``.beton`` files, by our kernel or by its own operations.

The plain form hands what FFCV has read, in our order, to our kernel. The form ``stock`` augments by the operations that
FFCV brings.
"""

import time
from collections.abc import Iterator
from ctypes import CDLL
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline, Request

INSTALL = "pip install 'fastcifar[ffcv]'"


class FfcvPipeline(Pipeline):
    """The plain form is exact, bit by bit, and ``stock`` to rounding as long as the recipe draws nothing.

    Where it does, ``stock`` throws FFCV's dice, which no seed reaches: flips and strengths are others than ours, and
    others in each run, while ids, order and labels are as in any pipeline. The colour parts come in a fixed order
    (brightness, contrast, saturation), each rounded down to 8 bits.

    One epoch at a time: beginning another ends the one before.
    """

    forms = ("", "stock")

    def __init__(self, request: Request, form: str = "", workers: int | None = None) -> None:
        """workers: threads that make pixels, default torch.get_num_threads(). One more reads ahead.

        In the plain form any number gives the same batches. Raises UsageError where FFCV does not load.
        """
        super().__init__(request, form)
        try:
            from fastcifar.pipelines.ffcv.reading import Reader
        except ImportError as error:
            raise UsageError(f"FFCV does not load ({error}): {INSTALL}") from error
        if form == "stock" and request.augment.random:
            self.differs = "FFCV's own draws; colour parts in a fixed order, each rounded to 8 bits"
        start = time.perf_counter()
        self._reader: Reader | None = Reader(request, form, workers or torch.get_num_threads())
        list(self._reader.read(request.ids[:1], 0))
        self.build_seconds = time.perf_counter() - start
        """how long it took to open the file and compile FFCV's operations, which each process does once for itself"""

    @classmethod
    def missing(cls, form: str) -> str | None:
        """Looks for FFCV and loads its library, which wants OpenCV's, but does not import it: that takes seconds."""
        found = find_spec("ffcv")
        if found is None or not found.submodule_search_locations:
            return f"FFCV is not installed: {INSTALL}"
        try:
            for library in Path(found.submodule_search_locations[0]).glob("_libffcv*.so"):
                CDLL(str(library))
        except OSError as error:
            return f"FFCV does not load ({error}); install what it lacks, or build it anew: {INSTALL} --force-reinstall"
        return None

    @classmethod
    def refuses(cls, request: Request, form: str) -> str | None:
        dataset, spec = request.dataset, request.augment
        name = f"ffcv/{dataset.part(request.split)}.beton"
        if name not in dataset.manifest["files"]:
            return f"{dataset.path} has no {name}: fastcifar convert SRC DEST --formats ffcv --overwrite"
        beyond = {"hue": spec.hue, "rotation": spec.rotate, "erasing after normalising": spec.erase, "size": spec.size}
        asked = [part for part, value in beyond.items() if value]
        if form == "stock" and asked:
            return f"FFCV has no operation of its own for {', '.join(asked)}; the pipeline 'ffcv' does it by our kernel"
        return None

    def epoch(self, k: int) -> Iterator[Batch]:
        if self._reader is None:
            raise UsageError("this pipeline is closed; open another one")
        reading: Any = self._reader.read(self.request.order(k)[: len(self) * self.request.batch_size], k)
        try:
            for batch in reading:
                yield batch
                if self._reader is None or self._reader.reading is not reading:
                    raise UsageError("this epoch is over, as another was begun or the pipeline closed")
        finally:
            reading.stop()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


PIPELINE = FfcvPipeline
