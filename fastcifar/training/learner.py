"""The learner: a network with its optimizer and epoch, its training step, evaluation, and state."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from fastcifar.models.build import build, images_at_once
from fastcifar.models.dropout import Noise
from fastcifar.models.names import MOST_IMAGES
from fastcifar.models.pretrained import Pretrained
from fastcifar.models.published import Weights, load
from fastcifar.models.restore import difference, fill
from fastcifar.models.tuning import freeze, ready
from fastcifar.pipeline import Batch
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.runs.spec import RunSpec
from fastcifar.system import machine
from fastcifar.system.devices import exact
from fastcifar.system.once import tell
from fastcifar.training.memory import within_memory
from fastcifar.training.optimizers import optimizer_of
from fastcifar.training.schedule import Rate

AT_ONCE = 16 * 224**2
"""The pixels of the images that go through a network at once on a CPU where no gradients are needed.

More of them leave the caches and take more memory: on two cores of a server CPU, EfficientNet-Lite0 did 330 images/s of
224 x 224 pixels by 16, in 240 MB, and 220 images/s by 128, in 1,400 MB."""


@dataclass
class Learner:
    """A network with its optimizer, gradient scaler, learning rate and number of trained epochs."""

    spec: RunSpec
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    rate: Rate
    device: torch.device
    epoch: int = 0
    network: Callable[..., Any] | None = None
    """The compiled or distributed model, which a step runs in place of the model. None: a step runs the model."""
    micro_batch: int = MOST_IMAGES
    """The samples that go through the network at once. A step adds up the gradients of its batch's micro-batches."""
    say: Callable[[str], None] = lambda text: None
    """A callback for messages to people, for example that the micro-batch was made smaller."""
    _untried: bool = True

    @classmethod
    def new(
        cls,
        spec: RunSpec,
        classes: int,
        device: torch.device,
        tensors: Mapping[str, Tensor] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> "Learner":
        """Make a learner with the spec's initial weights, on ``device``, in channels_last memory.

        classes: the number of classes. tensors: the weights of a pretrained network, by name. say: see the field; it
        also gets a sentence about the last layer of these weights, once a process tree. Raises UsageError where they do
        not fit the network.
        """
        if device.type == "cpu":
            machine.keep_freed_memory()
        exact(device)
        model = build(spec.model, classes, spec.dropout, spec.seed, spec.code, spec.fine_tuned)
        if tensors:
            assert isinstance(model, Pretrained)  # RunSpec refuses weights for other models
            fitted = load(model, Weights(spec.weights, tensors))
            tell(f"weights-{spec.weights}", f"weights {spec.weights}: {fitted}", say)
        freeze(model, spec.tune)
        ready(model, spec.tune)
        model = model.to(device).to(memory_format=torch.channels_last)
        rate = Rate(spec, device)
        optimizer = optimizer_of(trained_parameters(model), spec, rate.value)
        # bfloat16 has float32's range and needs no scaling
        scaler = torch.amp.GradScaler(device.type, enabled=spec.precision == "float16")
        return cls(spec, model, optimizer, scaler, rate, device, micro_batch=images_at_once(model, device), say=say)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a step's loss: one number."""
        return ()

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of automatic mixed precision in the spec's precision."""
        dtype = dtype_of(self.spec.precision)
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def begin(self, steps: int) -> None:
        """Prepare for the next epoch, which has ``steps`` steps, as every epoch of the run."""
        self.rate.begin(self.epoch + 1, steps)

    def step(self, batch: Batch, clock: Tensor | None = None, weight: float = 1.0) -> Tensor:
        """Do one step of the optimizer, and return the batch's mean loss, on the device.

        clock: the device memory from which a captured step reads seed and epoch; by default the learner's seed and
        epoch are used. weight: the weight of this batch's gradients in the mean over processes.
        """
        loss = (self._first_gradients if self._untried else self._gradients)(batch, clock, weight)
        self.rate.advance()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss

    def _first_gradients(self, batch: Batch, clock: Tensor | None, weight: float) -> Tensor:
        """Compute the gradients of the first step, with a micro-batch that fits.

        Later batches are not larger, so they fit, too.
        """
        loss = within_memory(self, len(batch.ids), lambda: self._gradients(batch, clock, weight))
        self._untried = False
        return loss

    def _gradients(self, batch: Batch, clock: Tensor | None, weight: float) -> Tensor:
        """Compute the gradients of a batch, one micro-batch after another, and return the mean loss of the batch."""
        network, whole = self.model if self.network is None else self.network, len(batch.ids)
        losses = []
        parts = list(zip(*(values.split(self.micro_batch) for values in batch), strict=True))
        for n, (images, labels, ids) in enumerate(parts):
            noise = Noise.of(self.spec.seed, self.epoch + 1, ids) if clock is None else Noise(clock, ids)
            # several processes average their gradients once, after the last micro-batch
            alone = isinstance(network, DistributedDataParallel) and n + 1 < len(parts)
            with network.no_sync() if alone else nullcontext():  # type: ignore[attr-defined]
                with self.autocast():
                    logits = network(images, noise)
                loss = cross_entropy(logits.float(), labels, label_smoothing=self.spec.smoothing)
                if len(ids) < whole:
                    loss = loss * (len(ids) / whole)
                losses.append(loss.detach())
                self.scaler.scale(loss if weight == 1 else loss * weight).backward()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def at_once(self, side: int) -> int:
        """Return the number of images that go through the network at once without gradients. side: theirs in pixels."""
        return min(self.micro_batch, max(1, AT_ONCE // side**2)) if self.device.type == "cpu" else self.micro_batch

    def parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Split images (B, 3, S, S) into the parts that go through the network at once without gradients."""
        return images.split(self.at_once(images.shape[-1]))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the state that the next epoch depends on: tensors by name, and a note that JSON can hold."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{self.spec.optimizer}.{key}.{name}"] = value
        return tensors, {"epoch": self.epoch, "scaler": self.scaler.state_dict()}

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return a copy of `state`, which later steps do not change."""
        tensors, note = self.state()
        return {name: value.detach().clone() for name, value in tensors.items()}, note

    def restore(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Copy a `state` into the existing tensors, so that a captured step uses it.

        Raises ValueError, in words for people, for a state that is not one of this learner's.
        """
        if wrong := difference(self.state()[0], tensors):
            raise ValueError(wrong)
        fill(self.model, {name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                value.copy_(tensors[f"{self.spec.optimizer}.{key}.{name}"])
        self.scaler.load_state_dict(note["scaler"])
        self.epoch = note["epoch"]


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@torch.inference_mode()
def evaluate(learner: Learner, batches: Iterator[Batch], batch_means: bool = False) -> tuple[float, float]:
    """Return the mean loss in nats and the accuracy in [0, 1] over all samples of the batches.

    batch_means: return the unweighted mean of the batches' mean losses as the loss.
    """
    losses: list[Tensor] = []
    sizes: list[int] = []
    right = torch.zeros((), dtype=torch.int64, device=learner.device)
    learner.model.eval()
    for batch in batches:
        with learner.autocast():
            logits = torch.cat([learner.model(part) for part in learner.parts(batch.images)]).float()
        losses.append(cross_entropy(logits, batch.labels))
        sizes.append(len(batch.labels))
        right += (logits.argmax(1) == batch.labels).sum()
    ready(learner.model, learner.spec.tune)
    return mean_loss(torch.stack(losses), sizes, batch_means), int(right) / sum(sizes)


def mean_loss(losses: Tensor, sizes: list[int], batch_means: bool) -> float:
    """Return the mean loss of all samples, computed in float64.

    losses: (n,) the mean of each batch. sizes: the samples of each batch. batch_means: return the unweighted mean of
    the batches' means instead.
    """
    values = losses.double().cpu()
    by = torch.ones(len(sizes)) if batch_means else torch.tensor(sizes)
    return float((values * by).sum() / by.sum())
