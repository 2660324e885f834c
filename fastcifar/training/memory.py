"""Smaller micro-batches for a step that does not fit into the device's memory."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.models.names import is_published
from fastcifar.models.pretrained import Pretrained, preprocessing
from fastcifar.runs.spec import RunSpec

BATCH_NORM = nn.modules.batchnorm._BatchNorm


class Stepping(Protocol):
    """The part of a `learner.Learner` that these functions use."""

    spec: RunSpec
    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    micro_batch: int

    @property
    def network(self) -> Any: ...

    @property
    def say(self) -> Callable[[str], None]: ...


def within_memory(learner: Stepping, batch: int, gradients: Callable[[], Tensor]) -> Tensor:
    """Call ``gradients`` and return its loss, with a micro-batch that is halved until the step fits.

    A failed attempt leaves gradients and buffers unchanged. batch: the number of its images. Raises FastcifarError
    where one image does not fit, or where other processes cannot repeat the step. Raises UsageError where a pretrained
    network cannot take the recipe's images.
    """
    first, norms = learner.micro_batch, [buffer.clone() for buffer in learner.model.buffers()]
    while True:
        try:
            loss = gradients()
            break
        except torch.OutOfMemoryError as error:
            failed = error.with_traceback(None)  # the frames of the traceback hold tensors that must be freed
        except (RuntimeError, AssertionError) as error:
            if isinstance(learner.model, Pretrained):
                refuse_misfit(learner.spec, error)
            raise
        _shrink(learner, batch, failed)
        for buffer, before in zip(learner.model.buffers(), norms, strict=True):
            buffer.copy_(before)
    if learner.micro_batch < first:
        _say_shrunk(learner, batch)
    return loss


def _shrink(learner: Stepping, batch: int, error: torch.OutOfMemoryError) -> None:
    """Halve the micro-batch. Raises FastcifarError where one image does not fit, or several processes train."""
    learner.optimizer.zero_grad()
    if learner.device.type == "cuda":
        torch.cuda.empty_cache()
    largest = min(learner.micro_batch, batch)
    if isinstance(learner.network, DistributedDataParallel):
        raise FastcifarError(
            f"{largest} images at once do not fit on {learner.device} any more, and the other processes cannot repeat "
            "the step; choose a smaller batch with --set batch_size"
        ) from error
    if largest == 1:
        raise FastcifarError(
            f"{learner.spec.model} does not fit on {learner.device}, even with a single image at a time; choose "
            "another device, a smaller network, or --set tune=head"
        ) from error
    learner.micro_batch = -(-largest // 2)


def refuse_misfit(spec: RunSpec, error: Exception) -> None:
    """Raise UsageError where a pretrained network failed on images of another recipe than its own."""
    own = preprocessing(spec.model).recipe if is_published(spec.model) else spec.recipe
    if spec.recipe != own:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{spec.model} cannot take the images of recipe {spec.recipe!r} ({reason}); leave --set recipe out to use "
            f"the recipe of its weights, {own!r}"
        ) from error


def _say_shrunk(learner: Stepping, batch: int) -> None:
    norms = any(isinstance(module, BATCH_NORM) and module.training for module in learner.model.modules())
    learner.say(
        f"{learner.spec.model}: {batch} images at once do not fit on {learner.device}; a step takes them "
        f"{learner.micro_batch} at a time and adds up the gradients"
        + (", and BatchNorm normalises each part by itself" if norms else ", which gives the same result to rounding")
    )
