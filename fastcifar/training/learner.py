"""What learns: a network, its optimizer and its epoch; one step of training, evaluation, and its state."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from fastcifar.models import MOST_IMAGES, build, images_at_once
from fastcifar.models.dropout import Noise
from fastcifar.models.pretrained import Pretrained
from fastcifar.models.published import Weights, load
from fastcifar.models.tuning import freeze, ready
from fastcifar.pipeline import Batch
from fastcifar.runs.spec import PRECISIONS, RunSpec
from fastcifar.system import machine
from fastcifar.system.devices import exact
from fastcifar.training.memory import within_memory


@dataclass
class Learner:
    """A network and what trains it. ``epoch`` epochs are behind it."""

    spec: RunSpec
    model: nn.Module
    optimizer: torch.optim.Adam
    scaler: torch.amp.GradScaler
    device: torch.device
    epoch: int = 0
    network: Callable[..., Any] | None = None
    """what a step runs in place of the model: the model compiled"""
    micro_batch: int = MOST_IMAGES
    """samples that go through the network at once; a step adds up the gradients of as many parts as its batch has"""
    say: Callable[[str], None] = lambda text: None
    """told when the micro-batch had to shrink"""
    _untried: bool = True

    @classmethod
    def new(
        cls, spec: RunSpec, classes: int, device: torch.device, tensors: Mapping[str, Tensor] | None = None
    ) -> "Learner":
        """With the spec's initial weights, on ``device``, channels_last. tensors: those of a pretrained network.

        Raises UsageError where these do not fit.
        """
        if device.type == "cpu":
            machine.keep_freed_memory()
        exact(device)
        model = build(spec.model, classes, spec.dropout, spec.seed)
        if tensors:
            assert isinstance(model, Pretrained)  # others have no weights to be given: RunSpec
            load(model, Weights(spec.weights, tensors))
        freeze(model, spec.tune)
        ready(model, spec.tune)
        model = model.to(device).to(memory_format=torch.channels_last)
        optimizer = adam(model, spec)
        # bfloat16 has float32's range and needs no scaling
        scaler = torch.amp.GradScaler(device.type, enabled=spec.precision == "float16")
        return cls(spec, model, optimizer, scaler, device, micro_batch=images_at_once(model, device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a step's loss: one number."""
        return ()

    def autocast(self) -> AbstractContextManager[None]:
        """Automatic mixed precision as the spec has it."""
        dtype = PRECISIONS[self.spec.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def step(self, batch: Batch, clock: Tensor | None = None, weight: float = 1.0) -> Tensor:
        """One step of Adam; the batch's mean loss, on the device.

        clock: where seed and epoch are read when the step runs, for one that is recorded; else they are the learner's.
        weight: of this batch's gradients among those of other processes.
        """
        loss = (self._first_gradients if self._untried else self._gradients)(batch, clock, weight)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss

    def _first_gradients(self, batch: Batch, clock: Tensor | None, weight: float) -> Tensor:
        """`_gradients` of a run's first step: batches are of one size, so what fits now fits from now on."""
        loss = within_memory(self, len(batch.ids), lambda: self._gradients(batch, clock, weight))
        self._untried = False
        return loss

    def _gradients(self, batch: Batch, clock: Tensor | None, weight: float) -> Tensor:
        """Backward through the batch, part by part; its mean loss."""
        network, whole = self.model if self.network is None else self.network, len(batch.ids)
        losses = []
        parts = list(zip(*(values.split(self.micro_batch) for values in batch), strict=True))
        for n, (images, labels, ids) in enumerate(parts):
            noise = Noise.of(self.spec.seed, self.epoch + 1, ids) if clock is None else Noise(clock, ids)
            # of several processes, gradients are averaged once they are all there
            alone = isinstance(network, DistributedDataParallel) and n + 1 < len(parts)
            with network.no_sync() if alone else nullcontext():  # type: ignore[attr-defined]
                with self.autocast():
                    logits = network(images, noise)
                loss = cross_entropy(logits.float(), labels)
                if len(ids) < whole:
                    loss = loss * (len(ids) / whole)
                losses.append(loss.detach())
                self.scaler.scale(loss if weight == 1 else loss * weight).backward()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next epoch depends on: tensors, and a note for JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors, {"epoch": self.epoch, "scaler": self.scaler.state_dict()}

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A copy of `state`, which later steps leave as it is."""
        tensors, note = self.state()
        return {name: value.detach().clone() for name, value in tensors.items()}, note

    def restore(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave, in the memory there is: a recorded step goes on with it."""
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                value.copy_(tensors[f"adam.{key}.{name}"])
        self.scaler.load_state_dict(note["scaler"])
        self.epoch = note["epoch"]


def adam(model: nn.Module, spec: RunSpec) -> torch.optim.Adam:
    """The optimizer of a run, with its state made: the zeros that Adam would make in its first step."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    recordable = parameters[0].device.type == "cuda"
    optimizer = torch.optim.Adam(parameters, lr=spec.lr, weight_decay=spec.l2, fused=True, capturable=recordable)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            **{
                key: torch.zeros_like(parameter, memory_format=torch.preserve_format)
                for key in ("exp_avg", "exp_avg_sq")
            },
        }
    return optimizer


@torch.inference_mode()
def evaluate(learner: Learner, batches: Iterator[Batch], batch_means: bool = False) -> tuple[float, float]:
    """Mean loss and accuracy in [0, 1] over batches; batch_means: the loss as the mean of the batches' means."""
    losses: list[Tensor] = []
    sizes: list[int] = []
    right = torch.zeros((), dtype=torch.int64, device=learner.device)
    learner.model.eval()
    for batch in batches:
        with learner.autocast():
            logits = torch.cat([learner.model(part) for part in batch.images.split(learner.micro_batch)]).float()
        losses.append(cross_entropy(logits, batch.labels))
        sizes.append(len(batch.labels))
        right += (logits.argmax(1) == batch.labels).sum()
    ready(learner.model, learner.spec.tune)
    return mean_loss(torch.stack(losses), sizes, batch_means), int(right) / sum(sizes)


def mean_loss(losses: Tensor, sizes: list[int], batch_means: bool) -> float:
    """Of the samples' losses, from each batch's mean (n,) and size, in float64; batch_means: of the batches' means."""
    values = losses.double().cpu()
    by = torch.ones(len(sizes)) if batch_means else torch.tensor(sizes)
    return float((values * by).sum() / by.sum())
