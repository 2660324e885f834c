"""Several runs' networks as one network, which vmap derives from the plain modules. No run depends on another.

Shape suffixes: R runs, G groups of runs that see the same batches, B batch, C classes.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.functional import cross_entropy

from fastcifar.errors import UsageError
from fastcifar.models.build import images_at_once
from fastcifar.models.dropout import Dropout
from fastcifar.models.names import MODELS, is_own
from fastcifar.packs.adam import ADAMS, StackedAdam, has_kernel
from fastcifar.packs.casting import casting
from fastcifar.packs.convolution import convolving
from fastcifar.packs.fused.layers import fusing
from fastcifar.packs.linear import multiplying
from fastcifar.packs.masks import MaskMaker, Masks, units_of
from fastcifar.packs.names import STACKED
from fastcifar.packs.own import why_serial
from fastcifar.packs.stacks import Stacks, dense_like
from fastcifar.pipeline import Batch
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.runs.spec import RunSpec
from fastcifar.training.learner import Learner, mean_loss


def can_stack(spec: RunSpec) -> str | None:
    """Return why a run cannot train in a stack, with the cure; None where it can."""
    if spec.fine_tuned:
        return f"{spec.model} is not one of {', '.join(MODELS)}; its runs train one after another"
    if spec.optimizer == "muon":
        return "muon's steps in bfloat16 enlarge a stack's different rounding; optimizer=sgd trains in stacks"
    if spec.precision == "float16":
        return "in float16 each run scales its gradients by a factor of its own; choose --set precision=bfloat16"
    return why_serial(spec) if is_own(spec.model) else None


def alike(spec: RunSpec) -> tuple[Any, ...]:
    """Return the settings that runs of one stack share. They determine image size and number of classes."""
    return spec.model, spec.batch_size, spec.protocol, spec.precision, spec.pipeline, spec.dataset


class Stacked:
    """The learners' networks as one network with a leading run dimension.

    Each learner keeps its optimizer, its state and its parameters, which become views of the stacks. A change of a
    learner between steps therefore changes its part of the stack.
    """

    def __init__(self, learners: Sequence[Learner], which: Sequence[int], way: str = STACKED[0]) -> None:
        """which: each learner's group, a row of the batches. way: one of `names.STACKED`.

        Raises UsageError for runs that cannot be stacked.
        """
        for learner in learners:
            reason = can_stack(learner.spec)
            if reason is not None:
                raise UsageError(f"{learner.spec.label} cannot train in a stack: {reason}")
            if alike(learner.spec) != alike(learners[0].spec):
                raise UsageError(
                    f"{learner.spec.label} and {learners[0].spec.label} cannot train in one stack: runs of one have "
                    "model, batch size, protocol, precision, pipeline and dataset in common"
                )
        self._learners, self._which = list(learners), list(which)
        self._first = learners[0]
        self.spec, self.device, self.shape = self._first.spec, self._first.device, (len(learners),)
        self._groups = max(which) + 1
        # with one run in each group, the batches need no gather by run
        self._rows = None if self._which == list(range(self._groups)) else torch.tensor(which, device=self.device)
        # on "meta", where no kernel runs: the units are counted before kernels of our own take the place of layers
        self._skeleton = deepcopy(self._first.model).to("meta")
        dropped = self._probabilities()
        units, on_gpu = units_of(self._skeleton), self.device.type != "cpu"
        self._masks = MaskMaker(dropped, units, self._which, self.device, together=on_gpu).masks
        multiplying(convolving(self._skeleton, way))
        if way == "fused":
            fusing(self._skeleton, on_gpu=has_kernel(self.device))
        self.network: Any = self._skeleton  # Captured and Eager pass a clock to `step` where this is not None
        self._at_once = images_at_once(self._skeleton, self.device, len(learners))
        # the gradients of a batch in several parts are added up in float32
        parts = self._at_once < self.spec.batch_size
        low = torch.float32 if parts or is_own(self.spec.model) else dtype_of(self.spec.precision)
        self._stacks = Stacks([learner.model for learner in learners], low)
        optimizers = {learner.spec.optimizer for learner in learners}
        together = has_kernel(self.device) and not optimizers.isdisjoint(ADAMS)
        self._adam = StackedAdam(self._stacks, learners) if together else None
        self._alone = [n for n, learner in enumerate(learners) if not together or learner.spec.optimizer not in ADAMS]
        self._ones_R = torch.ones(self.shape, device=self.device)
        smoothing = [learner.spec.smoothing for learner in learners]
        self._smoothing_R = torch.tensor(smoothing, device=self.device) if any(smoothing) else None

    def _probabilities(self) -> dict[int, list[float]]:
        """Return each run's dropout probability by layer, without the layers where it is 0 in every run.

        Those layers are switched off in the skeleton; the other dropout layers are switched on.
        """
        by_run = [
            {module.layer: module.p for module in learner.model.modules() if isinstance(module, Dropout)}
            for learner in self._learners
        ]
        dropped = {layer: [run[layer] for run in by_run] for layer in by_run[0] if any(run[layer] for run in by_run)}
        for module in self._skeleton.modules():
            if isinstance(module, Dropout):
                module.p = max(dropped.get(module.layer, [0.0]))
        return dropped

    def begin(self, steps: int) -> None:
        """Prepare for the next epoch of each run, which has ``steps`` steps."""
        for learner in self._learners:
            learner.begin(steps)
        self._stacks.refresh()  # a learner may have changed its weights since
        if self._adam is not None:
            self._adam.begin([learner.epoch + 1 for learner in self._learners], steps)

    def step(self, batch: Batch, clock: Tensor | None = None, weight: float = 1.0) -> Tensor:
        """Do one step of each run's optimizer, and return the mean losses of their batches, (R,) float32 on the device.

        batch: images (G, B, 3, S, S), labels and ids (G, B). clock: (G, 3), the source of seeds and epochs; it must not
        be None. weight: must be 1, as a stack trains in one process.
        """
        assert clock is not None
        assert weight == 1
        masks = self._masks(clock, batch.ids)
        # images that all runs share are not copied
        images = batch.images if self._groups == 1 else self._by_run(batch.images)
        weights = self._stacks.leaves
        losses_R = self._losses(self._forward(weights, images, masks), batch.labels)
        # each run's weights affect only its own loss
        gradients = dict(zip(weights, torch.autograd.grad(losses_R, list(weights.values()), self._ones_R), strict=True))
        if self._adam is not None:
            self._adam.step(gradients)
        if self._alone:
            self._step_alone(gradients)
        return losses_R.detach()

    def _step_alone(self, gradients: dict[str, Tensor]) -> None:
        """Do a step of the optimizers that step for themselves, each on its own part of the gradients."""
        stacks = self._stacks.views
        gradients = {name: dense_like(gradient.float(), stacks[name]) for name, gradient in gradients.items()}
        for n in self._alone:
            for name, parameter in self._stacks.parameters[n].items():
                parameter.grad = gradients[name][n]
            learner = self._learners[n]
            learner.rate.advance()
            learner.optimizer.step()
            learner.optimizer.zero_grad()
        self._stacks.refresh()

    @torch.inference_mode()
    def evaluate(self, batches: Iterator[Batch], which: Sequence[int], means: bool) -> list[tuple[float, float]]:
        """Return each run's mean loss and accuracy in [0, 1], as `learner.evaluate` does.

        which: each run's row of these batches. means: as `mean_loss` takes ``batch_means``.
        """
        losses: list[Tensor] = []
        sizes: list[int] = []
        right = torch.zeros(self.shape, dtype=torch.int64, device=self.device)
        rows = torch.tensor(which, device=self.device)
        for images, labels, _ in batches:
            logits_RBC = self._forward(self._stacks.views, images if len(images) == 1 else images[rows], {})
            labels_RB = labels[rows]
            losses.append(_means(logits_RBC, labels_RB))
            sizes.append(labels.shape[-1])
            right += (logits_RBC.argmax(2) == labels_RB).sum(1)
        by_run = torch.stack(losses).T.cpu()
        return [
            (mean_loss(each, sizes, means), count / sum(sizes))
            for each, count in zip(by_run, right.tolist(), strict=True)
        ]

    def snapshot(self) -> tuple[list[Any], list[Any]]:
        """Return copies of all learners' `Learner.state`: their tensors and their notes."""
        tensors, notes = zip(*(learner.snapshot() for learner in self._learners), strict=True)
        return list(tensors), list(notes)

    def restore(self, tensors: list[Any], note: list[Any]) -> None:
        """Copy the results of ``snapshot`` back into the learners' existing memory."""
        for learner, *state in zip(self._learners, tensors, note, strict=True):
            learner.restore(*state)
        self._stacks.refresh()

    def _forward(self, weights: dict[str, Tensor], images: Tensor, masks: dict[int, Tensor]) -> Tensor:
        """Return the logits (R, B, C), in parts of `images_at_once`.

        weights: (R, ...) by the parameter's name. images: (1, B, 3, S, S) where all runs see the same images, else
        (R, B, 3, S, S).
        """
        parts = images.split(self._at_once, 1)
        if len(parts) == 1:
            return self._logits(weights, images, masks)
        by_part = {layer: mask.split(self._at_once, 1) for layer, mask in masks.items()}
        own = ({layer: split[n] for layer, split in by_part.items()} for n in range(len(parts)))
        return torch.cat([self._logits(weights, part, some) for part, some in zip(parts, own, strict=True)], 1)

    def _logits(self, weights: dict[str, Tensor], images: Tensor, masks: dict[int, Tensor]) -> Tensor:
        """Return the logits (R, B, C) of one part of the images."""
        one = len(images) == 1

        def forward(parameters: dict[str, Tensor], images: Tensor, masks: dict[int, Tensor]) -> Any:
            return functional_call(self._skeleton, parameters, (images, Masks(masks) if masks else None))

        # shared images get no run dimension, so that vmap makes one wide product of them
        over = (0, None if one else 0, dict.fromkeys(masks, 0))
        with casting(dtype_of(self.spec.precision), self.device):
            logits: Tensor = vmap(forward, in_dims=over)(weights, images[0] if one else images, masks)
        return logits

    def _losses(self, logits_RBC: Tensor, labels: Tensor) -> Tensor:
        labels_RB = self._by_run(labels)
        losses_R = _means(logits_RBC, labels_RB)
        if self._smoothing_R is None:
            return losses_R
        uniform_R = -logits_RBC.float().log_softmax(2).mean((1, 2))  # the loss for labels that are equally likely
        return losses_R + self._smoothing_R * (uniform_R - losses_R)

    def _by_run(self, values: Tensor) -> Tensor:
        """Return the values of each run, (R, ...), from those of each group, (G, ...)."""
        return values if self._rows is None else values[self._rows]


def _means(logits_RBC: Tensor, labels_RB: Tensor) -> Tensor:
    each = cross_entropy(logits_RBC.float().flatten(0, 1), labels_RB.flatten(), reduction="none")
    return each.view(labels_RB.shape).mean(1)
