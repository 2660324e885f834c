"""A step that does not fit into the device's memory goes through in smaller parts, the micro-batches."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.models.pretrained import Pretrained, preprocessing
from fastcifar.runs.spec import RunSpec

if TYPE_CHECKING:
    from fastcifar.training.learner import Learner

BATCH_NORM = nn.modules.batchnorm._BatchNorm


def within_memory(learner: "Learner", batch: int, gradients: Callable[[], Tensor]) -> Tensor:
    """The loss of ``gradients``, with the largest micro-batch that fits, by halves; failed attempts leave no trace.

    batch: its images. Raises FastcifarError where one image is too much, or where other processes cannot take a step
    back; UsageError where a pretrained network cannot take the recipe's images.
    """
    asked, norms = learner.micro_batch, [buffer.clone() for buffer in learner.model.buffers()]
    while True:
        try:
            loss = gradients()
            break
        except torch.OutOfMemoryError as error:
            failed = error.with_traceback(None)  # whose frames hold what is to be freed
        except (RuntimeError, AssertionError) as error:
            if isinstance(learner.model, Pretrained):
                _refuse_misfit(learner.spec, error)
            raise
        _shrink(learner, batch, failed)
        for buffer, before in zip(learner.model.buffers(), norms, strict=True):
            buffer.copy_(before)
    if learner.micro_batch < asked:
        _say_shrunk(learner, batch)
    return loss


def _shrink(learner: "Learner", batch: int, error: torch.OutOfMemoryError) -> None:
    """Halve the micro-batch. Raises FastcifarError where one image is too much."""
    learner.optimizer.zero_grad()
    if learner.device.type == "cuda":
        torch.cuda.empty_cache()
    largest = min(learner.micro_batch, batch)
    if isinstance(learner.network, DistributedDataParallel):
        raise FastcifarError(
            f"{largest} images at once do not fit on {learner.device} any more, and the other processes cannot take "
            "a step back; choose a smaller batch, --set batch_size"
        ) from error
    if largest == 1:
        raise FastcifarError(
            f"{learner.spec.model} does not fit on {learner.device}, not with a single image at a time; choose another "
            "device, a smaller network, or --set tune=head"
        ) from error
    learner.micro_batch = -(-largest // 2)


def _refuse_misfit(spec: RunSpec, error: Exception) -> None:
    """Raise UsageError where a pretrained network failed on images that are not as its weights want them."""
    own = preprocessing(spec.model).recipe
    if spec.recipe != own:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"{spec.model} cannot take the images of recipe {spec.recipe!r} ({reason}); leave --set recipe out for "
            f"what its weights want, {own!r}"
        ) from error


def _say_shrunk(learner: "Learner", batch: int) -> None:
    norms = any(isinstance(module, BATCH_NORM) and module.training for module in learner.model.modules())
    learner.say(
        f"{learner.spec.model}: {batch} images at once do not fit on {learner.device}; a step takes them "
        f"{learner.micro_batch} at a time and adds up the gradients"
        + (", and BatchNorm sees those" if norms else ", which is the same to rounding")
    )
