"""The cost of a training step: the memory of its activations, its operations, and the peak operations of a device."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from fastcifar.pipeline import Batch
from fastcifar.system.measure import alternate
from fastcifar.training.learner import Learner

PEAK_SIDE = {"cpu": 1024, "cuda": 8192}  # rows of the square matrices whose product is timed


class Footprint(NamedTuple):
    """The cost of a training step."""

    activation_bytes: int
    """The bytes that autograd keeps between the forward and backward of a micro-batch. Copies of weights in another
    precision count, the weights do not."""
    flops: int
    """The floating-point operations for an image, forward and backward, by torch's FlopCounterMode. It counts products
    of matrices and convolutions, with two operations for each multiply-add."""


def footprint(learner: Learner, batch: Batch) -> Footprint:
    """Measure a step on a batch. The learner's state is restored afterwards."""
    before = learner.snapshot()
    while True:  # until a step runs without a smaller micro-batch
        size = learner.micro_batch
        part = Batch(*(values[:size].clone() for values in batch))
        taken = _of_step(learner, part)
        if learner.micro_batch == size:
            break
    learner.restore(*before)
    return taken


def _of_step(learner: Learner, batch: Batch) -> Footprint:
    weights = {parameter.untyped_storage().data_ptr() for parameter in learner.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with counter_of_flops() as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        learner.step(batch)
    return Footprint(sum(kept.values()), counter.get_total_flops() // len(batch.ids))


def counter_of_flops() -> FlopCounterMode:
    """Return torch's FlopCounterMode with a correct count for the gradients of grouped convolutions."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})


def _convolution_backward(
    gradient: tuple[int, ...], images: tuple[int, ...], weight: tuple[int, ...], *more: Any, out_shape: Any, **_: Any
) -> int:
    """Return the operations of a convolution's gradients: those of the convolution, for each gradient that is needed.

    gradient, images, weight: shapes. more: the other arguments of aten::convolution_backward. torch's own formula
    ignores groups.
    """
    transposed, wanted = more[4], more[7]
    places = images if transposed else gradient
    return 2 * math.prod(places) * math.prod(weight[1:]) * sum(wanted[:2])


def peak_flops(device: torch.device, dtype: torch.dtype, repeats: int = 7) -> float:
    """Return the floating-point operations per second in a large product of random matrices.

    The result is the median of ``repeats`` products.
    """
    side = PEAK_SIDE[device.type]
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn((side, side), generator=generator).to(device, dtype) for _ in range(2))
    timing = alternate({"product": lambda: a @ b}, repeats, warmup=2, device=str(device))["product"]
    return 2 * side**3 / timing.median
