"""The networks that train on a contestant's batches, to measure whether the pipeline is fast enough for them."""

import dataclasses

import torch
from torch import Tensor, nn

from fastcifar.data.dataset import Dataset
from fastcifar.models.dropout import Noise
from fastcifar.runs.plan import headline_runs
from fastcifar.system.vision import torchvision
from fastcifar.throughput.contestant import Contestant
from fastcifar.training.learner import Learner, trained_parameters
from fastcifar.training.optimizers import optimizer_of


class WithoutNoise(nn.Module):
    """A wrapper that ignores the dropout noise, which Learner passes, for a network that takes images alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        logits: Tensor = self.network(images)
        return logits


def trainee(contestant: Contestant, dataset: Dataset) -> Learner:
    """Return a learner of the contestant's network with Adam. A dtype other than float32 means mixed precision."""
    device = torch.device(contestant.device)
    (spec,) = headline_runs(
        2, dataset, seeds=[contestant.seed], batch_size=contestant.batch_size, recipe=contestant.recipe,
        precision=contestant.dtype,
    )  # fmt: skip
    learner = Learner.new(spec, len(dataset.classes), device)
    if contestant.model == "cnn":
        return learner
    with torch.random.fork_rng():  # torchvision draws initial weights from the global generator
        torch.manual_seed(contestant.seed)
        network = torchvision.models.resnet18(num_classes=len(dataset.classes))
    model = WithoutNoise(network.to(device).to(memory_format=torch.channels_last))
    return dataclasses.replace(learner, model=model, optimizer=optimizer_of(trained_parameters(model), spec, spec.lr))
