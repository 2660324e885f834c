"""Several devices training one network, a process each (torchrun): who they are, and what they tell each other.

Every step's samples are those that one device would have; each process has its share of them (`Request.shard`).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.system.devices import processes, use
from fastcifar.training.learner import Learner
from fastcifar.training.steps import Trained


@dataclass(frozen=True)
class Team:
    """The processes of a training. Alone, there is nobody to talk to, and nothing is said."""

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls, device: torch.device) -> "Team":
        """The team that torchrun started this process for, which it joins once; alone without torchrun."""
        size = processes()
        if size == 1:
            return cls()
        if not dist.is_initialized():
            use(device)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size)

    @property
    def shard(self) -> tuple[int, int]:
        """Rank and number of the processes, as `Request.shard` has them."""
        return self.rank, self.size

    def leave(self) -> None:
        """End the talk; the processes wait for one another no more."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def gathered(self, mine: Any) -> list[Any]:
        """What each process has to say, by rank."""
        if self.size == 1:
            return [mine]
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, mine)
        return said

    def first(self, mine: Any) -> Any:
        """What the process of rank 0 has to say."""
        return self.gathered(mine)[0]

    def connect(self, learner: Learner) -> None:
        """Have a learner's gradients averaged over the team, whose parts of a micro-batch are then equally large."""
        if self.size > 1:
            learner.micro_batch = min(self.gathered(learner.micro_batch))
            devices = [learner.device] if learner.device.type == "cuda" else None
            learner.network = DistributedDataParallel(learner.model, device_ids=devices)

    def together(self, trained: Trained) -> Trained:
        """An epoch's steps as one process would have had them: each batch's mean loss over all its samples."""
        if self.size == 1:
            return trained
        said = self.gathered((trained.losses, torch.tensor(trained.sizes, dtype=torch.float64)))
        losses, sizes = (torch.stack(parts) for parts in zip(*said, strict=True))
        whole = sizes.sum(0)
        return trained._replace(losses=(losses * sizes).sum(0) / whole, sizes=[int(size) for size in whole])

    def directory(self, spec: RunSpec, out: Any) -> RunDirectory:
        """The run's directory, which only the process of rank 0 writes to."""
        found = RunDirectory.of(spec, out)
        return found if self.rank == 0 else Reading(found.path)


class Reading(RunDirectory):
    """A run directory that somebody else writes to."""

    def locked(self) -> Any:
        return nullcontext()

    def start(self, spec: RunSpec, context: Mapping[str, Any]) -> None:
        pass

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        pass

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        return self.metrics()[:epochs]

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass

    def save_tensors(self, name: str, tensors: Mapping[str, torch.Tensor], note: Mapping[str, Any]) -> None:
        pass
