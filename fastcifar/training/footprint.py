"""What a step of training takes: memory of its activations, arithmetic, and the most of that a device does a second."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from fastcifar.pipeline import Batch
from fastcifar.system.measure import alternate
from fastcifar.training.learner import Learner

PEAK_SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is timed


class Footprint(NamedTuple):
    """Of one step."""

    activation_bytes: int
    """what is kept between forward and backward of one micro-batch, weights apart but not their copies in another
    precision"""
    flops: int
    """floating-point operations for an image, forward and backward: those of torch's FlopCounterMode, which counts
    products (matrices, convolutions) and two for each multiply-add"""


def footprint(learner: Learner, batch: Batch) -> Footprint:
    """Measure a step on a batch; the learner is afterwards as before."""
    before = learner.snapshot()
    while True:  # until no part of the batch was refused for want of memory
        asked = learner.micro_batch
        part = Batch(*(values[:asked].clone() for values in batch))
        taken = _of_step(learner, part)
        if learner.micro_batch == asked:
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
    """torch's, but right about the gradients of grouped convolutions."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward})


def _convolution_backward(
    gradient: tuple[int, ...], images: tuple[int, ...], weight: tuple[int, ...], *more: Any, out_shape: Any, **_: Any
) -> int:
    """Operations of a convolution's gradients, by shapes and convolution_backward's further arguments: those of the
    convolution for each that is wanted. torch's own count takes no notice of groups.
    """
    transposed, wanted = more[4], more[7]
    places = images if transposed else gradient
    return 2 * math.prod(places) * math.prod(weight[1:]) * sum(wanted[:2])


def peak_flops(device: torch.device, dtype: torch.dtype, repeats: int = 7) -> float:
    """Floating-point operations a second of a large product of random matrices: the median of ``repeats``."""
    side = PEAK_SIDE[device.type]
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn((side, side), generator=generator).to(device, dtype) for _ in range(2))
    timing = alternate({"product": lambda: a @ b}, repeats, warmup=2, device=str(device))["product"]
    return 2 * side**3 / timing.median
