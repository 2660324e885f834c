"""What learns: a network, its optimizer and its epoch; one step of training, evaluation, and its state."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fastcifar import machine
from fastcifar.models import build
from fastcifar.models.noise import Noise
from fastcifar.pipeline import Batch
from fastcifar.runs import PRECISIONS, RunSpec


@dataclass
class Learner:
    """A network and what trains it. ``epoch`` epochs are behind it."""

    spec: RunSpec
    model: nn.Module
    optimizer: torch.optim.Adam
    scaler: torch.amp.GradScaler
    device: torch.device
    epoch: int = 0

    @classmethod
    def new(cls, spec: RunSpec, classes: int, device: torch.device) -> "Learner":
        """With the spec's initial weights, on ``device``, channels_last."""
        if device.type == "cpu":
            machine.keep_freed_memory()
        model = build(spec.model, classes, spec.dropout, spec.seed).to(device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), lr=spec.lr, weight_decay=spec.l2, fused=True)
        # bfloat16 has float32's range and needs no scaling
        scaler = torch.amp.GradScaler(device.type, enabled=spec.precision == "float16")
        return cls(spec, model, optimizer, scaler, device)

    def autocast(self) -> AbstractContextManager[None]:
        """Automatic mixed precision as the spec has it."""
        dtype = PRECISIONS[self.spec.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def step(self, batch: Batch) -> Tensor:
        """One step of Adam; the batch's mean loss, on the device."""
        noise = Noise(self.spec.seed, self.epoch + 1, batch.ids)
        with self.autocast():
            logits = self.model(batch.images, noise)
        loss = cross_entropy(logits.float(), batch.labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss.detach()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next epoch depends on: tensors, and a note for JSON."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors, {"epoch": self.epoch, "scaler": self.scaler.state_dict()}

    def restore(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave."""
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        for name, parameter in self.model.named_parameters():
            moments = {key: tensors[f"adam.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            # as Adam makes them: in the parameter's own memory format
            self.optimizer.state[parameter] = {
                key: value if key == "step" else torch.empty_like(parameter).copy_(value)
                for key, value in moments.items()
            }
        self.scaler.load_state_dict(note["scaler"])
        self.epoch = note["epoch"]


@torch.inference_mode()
def evaluate(learner: Learner, batches: Iterator[Batch], batch_means: bool = False) -> tuple[float, float]:
    """Mean loss and accuracy in [0, 1] over batches; batch_means: the loss as the mean of the batches' means."""
    losses: list[Tensor] = []
    sizes: list[int] = []
    right = torch.zeros((), dtype=torch.int64, device=learner.device)
    for batch in batches:
        with learner.autocast():
            logits = learner.model(batch.images).float()
        losses.append(cross_entropy(logits, batch.labels))
        sizes.append(len(batch.labels))
        right += (logits.argmax(1) == batch.labels).sum()
    return mean_loss(losses, sizes, batch_means), int(right) / sum(sizes)


def mean_loss(losses: list[Tensor], sizes: list[int], batch_means: bool) -> float:
    """Of the samples' losses, from each batch's mean and size, in float64; batch_means: of the batches' means.

    The one point of an epoch where the host waits for the device.
    """
    values = torch.stack(losses).double().cpu()
    by = torch.ones(len(sizes)) if batch_means else torch.tensor(sizes)
    return float((values * by).sum() / by.sum())
