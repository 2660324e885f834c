"""The dataset in memory and batches made by the fused kernels: on the CPU ahead of the consumer, on CUDA where they are
needed, from a dataset that lives on the device.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fastcifar.pipelines.resident.host import OnHost

from fastcifar.errors import UsageError
from fastcifar.pipeline import Batch, Pipeline, Renderer, Request

if TYPE_CHECKING:
    from fastcifar.pipelines.resident.device import OnDevice  # needs Triton


class ResidentPipeline(Pipeline):
    """Exact: on the CPU and on CUDA every pixel is the reference's, bit by bit."""

    shares = True

    def __init__(self, request: Request, form: str = "", workers: int | None = None) -> None:
        """workers: threads that make batches on the CPU, default torch.get_num_threads(); any number gives the same
        batches. Raises DoesNotFit where the dataset does not fit on the device.
        """
        super().__init__(request, form)
        self._maker: OnHost | OnDevice | None = _maker_for(request, workers)

    @classmethod
    def refuses(cls, request: Request, form: str) -> str | None:
        if request.device.type == "cuda" and find_spec("triton") is None:
            return "its kernels for CUDA need Triton, which is not installed: pip install triton"
        return None

    def epoch(self, k: int) -> Iterator[Batch]:
        if self._maker is None:
            raise UsageError("this pipeline is closed; open another one")
        yield from self._maker.epoch(k)

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
