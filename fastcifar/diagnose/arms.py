"""Train the same last layer (the head) with BatchNorm in training mode and in eval mode, and evaluate it.

The arms begin with the same weights and take the same batches. In training mode, every batch changes the running
statistics of the frozen backbone; in eval mode, no batch does. Each evaluation is made three times: of the head as it
is; of the same head with the initial statistics put back (restored); and of the final head, which the last step made,
with the present statistics, so that nothing but the statistics moves from one evaluation to the next. What the head
learns does not change the statistics, so the final head may be evaluated with those of all steps. A step in training
mode normalises by the statistics of its own batch. So the heads of all momenta are equal, and one training serves them
all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fastcifar.diagnose.experiment import Experiment
from fastcifar.diagnose.running import Running
from fastcifar.errors import UsageError
from fastcifar.models.pretrained import Pretrained
from fastcifar.models.tuning import ready
from fastcifar.pipeline import Pipeline
from fastcifar.show.progress import track
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import Learner


@dataclass(frozen=True)
class Arm:
    """An arm of the experiment. momentum: BatchNorm's, in (0, 1], the weight of each new batch; None: eval mode."""

    momentum: float | None = None

    @property
    def name(self) -> str:
        """The name in tables and pictures."""
        return "eval mode" if self.momentum is None else f"training mode, momentum {self.momentum:g}"

    @property
    def tune(self) -> str:
        """The way of models.tuning that sets this mode, which also switches dropout and stochastic depth, if any."""
        return "head" if self.momentum is None else "as-run"


EVAL_MODE = Arm().name


def arms_of(momenta: Sequence[float]) -> list[Arm]:
    """Return an arm in training mode for each momentum, then the arm in eval mode.

    Raises UsageError unless the momenta are different numbers in (0, 1].
    """
    if not momenta or len(set(momenta)) < len(momenta) or not all(0 < momentum <= 1 for momentum in momenta):
        listed = ", ".join(map(str, momenta)) or "none"
        raise UsageError(f"momenta {listed}: give different numbers in (0, 1] with --momenta, such as 0.1,0.01")
    return [*map(Arm, momenta), Arm()]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of an arm on the validation images after a step of an epoch. A value that an arm lacks is None.

    Steps and epochs count from 1. Both are 0 before the first step. Losses are means in nats, accuracies in [0, 1].
    """

    arm: str
    epoch: int
    step: int
    loss: float
    accuracy: float
    restored_loss: float | None = None
    """Loss of the same head with the initial statistics put back."""
    restored_accuracy: float | None = None
    final_loss: float | None = None
    """Loss of the head as it is after the last step, with the statistics after this step."""
    moved: float | None = None
    """Distance of the running means from the initial ones by `Running.moved`: the median layer."""
    moved_most: float | None = None
    """The same distance in the layer where it is largest."""


class ByImage(NamedTuple):
    """The loss of each validation image, (V,) float64 in nats, and whether it was right, (V,) float64 of 0 and 1."""

    losses: Tensor
    right: Tensor

    def means(self) -> tuple[float, float]:
        """Return the mean loss and the accuracy."""
        return float(self.losses.mean()), float(self.right.mean())


@dataclass
class Trained:
    """The evaluations of an arm in their order, and those of the last epoch by image."""

    arm: Arm
    evaluations: list[Evaluation] = field(default_factory=list)
    late: list[ByImage] = field(default_factory=list)


class Validated(NamedTuple):
    """The inputs that the heads get for the validation images, (V, F) in the precision of the run, and the labels, (V,)
    int64.
    """

    values: Tensor
    labels: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, learner: Learner, validation: Pipeline) -> "Validated":
        """Compute them with the present running statistics."""
        model, values, labels = learner.model, [], []
        assert isinstance(model, Pretrained)
        model.eval()
        for batch in validation.epoch(0):
            with learner.autocast():
                values += [model.features(part) for part in learner.parts(batch.images)]
            labels.append(batch.labels)
        ready(model, learner.spec.tune)
        return cls(torch.cat(values), torch.cat(labels))

    @torch.inference_mode()
    def evaluate(self, learner: Learner) -> ByImage:
        """Return the losses of the learner's head, on the CPU."""
        assert isinstance(learner.model, Pretrained)
        with learner.autocast():
            logits = learner.model.head(self.values).float()
        losses = cross_entropy(logits, self.labels, reduction="none")
        return ByImage(losses.double().cpu(), (logits.argmax(1) == self.labels).double().cpu())


def train_heads(experiment: Experiment, arms: Sequence[Arm]) -> list[Trained]:
    """Train the arms and return them in their order. Raises UsageError for a network without BatchNorm."""
    spec, done = experiment.spec, []
    training, validation = open_pipelines(spec, experiment.dataset, experiment.device)
    with training, validation:
        initial = Validated.of(experiment.learner("head"), validation)
        for tune in dict.fromkeys(arm.tune for arm in arms):
            mode = _Mode(experiment, [arm for arm in arms if arm.tune == tune], initial)
            evaluated = len(mode.momenta) * len(experiment.evaluated) * len(initial.labels)
            images = spec.epochs * (len(experiment.dataset.ids("training")) + evaluated)
            title = f"heads in {'training' if mode.momenta else 'eval'} mode"
            for _ in track(mode.train(training, validation), title, images, size=int):
                pass
            done += mode.trained
    return done


class _Mode:
    """The arms of one mode of BatchNorm, which train together."""

    def __init__(self, experiment: Experiment, arms: Sequence[Arm], initial: Validated) -> None:
        self.trained = [Trained(arm) for arm in arms]
        self.momenta = [arm.momentum for arm in arms if arm.momentum is not None]
        self._experiment, self._initial = experiment, initial
        self._learner = experiment.learner(arms[0].tune)
        self._running = Running(self._learner.model, experiment.spec.model, self.momenta)
        self._seen: list[list[Validated]] = [[] for _ in arms]

    def train(self, training: Pipeline, validation: Pipeline) -> Iterator[int]:
        """Train the arms. Yield the number of images of each piece of work."""
        learner, steps = self._learner, self._experiment.steps
        for place in range(len(self.trained)):
            self._evaluate(place, self._initial, 0, 0)
        for epoch in range(1, self._experiment.spec.epochs + 1):
            learner.begin(steps)
            for step, batch in enumerate(training.epoch(epoch), 1):
                learner.step(batch)
                if self.momenta:
                    self._running.take()
                yield len(batch.ids)
                if step in self._experiment.evaluated:
                    for place, trained in enumerate(self.trained):
                        present = self._initial
                        if trained.arm.momentum is not None:
                            self._running.put(trained.arm.momentum)
                            present = Validated.of(learner, validation)
                            yield len(present.labels)
                        self._evaluate(place, present, epoch, step)
            learner.epoch = epoch
        for trained, seen in zip(self.trained, self._seen, strict=True):
            trained.evaluations = [
                replace(one, final_loss=present.evaluate(learner).means()[0])
                for one, present in zip(trained.evaluations, seen, strict=True)
            ]

    def _evaluate(self, place: int, present: Validated, epoch: int, step: int) -> None:
        """Add an evaluation to an arm. present: with the present statistics."""
        trained = self.trained[place]
        as_it_is = present.evaluate(self._learner)
        restored = self._initial.evaluate(self._learner).means()
        momentum = trained.arm.momentum
        moved = torch.zeros(1) if momentum is None else self._running.moved(momentum)
        if epoch == self._experiment.spec.epochs:
            trained.late.append(as_it_is)
        self._seen[place].append(present)
        distances = float(moved.median()), float(moved.max())
        trained.evaluations.append(
            Evaluation(trained.arm.name, epoch, step, *as_it_is.means(), *restored, None, *distances)
        )
