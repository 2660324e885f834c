"""The dataset in memory, and batches made by the fused kernels. On the CPU batches are made ahead of the consumer. On
CUDA the dataset is on the device, and batches are made there when they are needed.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fastcifar.pipelines.resident.host import OnHost

from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline, Renderer, Request

if TYPE_CHECKING:
    from fastcifar.pipelines.resident.device import OnDevice  # needs Triton

CLOSED = "this pipeline is closed; open another one"


class ResidentPipeline(Pipeline):
    """The pipeline ``resident``. On the CPU and on CUDA all pixels have the reference's bits."""

    shares = True

    def __init__(self, request: Request, form: str = "", workers: int | None = None) -> None:
        """Load the dataset, and compile the kernels.

        workers: threads that make batches on the CPU, by default torch.get_num_threads(). Any number gives the same
        batches. Raises DoesNotFit where the dataset does not fit on the device.
        """
        super().__init__(request, form)
        self._maker: OnHost | OnDevice | None = _maker_for(request, workers)

    @classmethod
    def refuses(cls, request: Request, form: str) -> str | None:
        if request.device.type == "cuda" and find_spec("triton") is None:
            return "its kernels for CUDA need Triton, which is not installed: pip install triton"
        return None

    def epoch(self, k: int, start: int = 0) -> Iterator[Batch]:
        if self._maker is None:
            raise UsageError(CLOSED)
        for batch in self._maker.epoch(k, start):
            yield batch
            if self._maker is None:
                raise UsageError(CLOSED)

    def renderer(self) -> Renderer | None:
        return self._maker if isinstance(self._maker, Renderer) else None

    def close(self) -> None:
        if isinstance(self._maker, OnHost):
            self._maker.close()
        self._maker = None


def _maker_for(request: Request, workers: int | None) -> "OnHost | OnDevice":
    if request.device.type == "cpu":
        return OnHost(request, workers)
    from fastcifar.pipelines.resident.device import OnDevice

    return OnDevice(request)


PIPELINE = ResidentPipeline
