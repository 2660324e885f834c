"""Training of one network on several devices, with one process for each device (torchrun).

A step has the same samples as on one device. Each process has its share of them (`Request.shard`).
"""

import gc
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec
from fastcifar.system.devices import use
from fastcifar.system.launch import processes
from fastcifar.training.learner import Learner
from fastcifar.training.steps import Trained


@dataclass(frozen=True)
class Team:
    """The processes that train together. A single process does not communicate."""

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls, device: torch.device) -> "Team":
        """Return the team that torchrun started this process for, and join it once. Without torchrun its size is 1."""
        size = processes()
        if size == 1:
            return cls()
        if not dist.is_initialized():
            use(device)
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), size)

    @property
    def shard(self) -> tuple[int, int]:
        """The rank of this process and the number of processes, for `Request.shard`."""
        return self.rank, self.size

    def leave(self) -> None:
        """Leave the process group, so that the processes no longer wait for one another."""
        if self.size > 1 and dist.is_initialized():
            # DDP's reference cycles keep the group's threads alive. A thread that needs the GIL while Python ends
            # would abort the process.
            gc.collect()
            dist.barrier()
            dist.destroy_process_group()

    def gathered(self, mine: Any) -> list[Any]:
        """Return the values of all processes, by rank. mine: the value of this process."""
        if self.size == 1:
            return [mine]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, mine)
        return values

    def first(self, mine: Any) -> Any:
        """Return the value of the process of rank 0. mine: the value of this process."""
        return self.gathered(mine)[0]

    def connect(self, learner: Learner) -> None:
        """Average the learner's gradients over the team. All processes get the smallest micro-batch of the team."""
        if self.size > 1:
            learner.micro_batch = min(self.gathered(learner.micro_batch))
            devices = [learner.device] if learner.device.type == "cuda" else None
            learner.network = DistributedDataParallel(learner.model, device_ids=devices)

    def together(self, trained: Trained) -> Trained:
        """Return the result of an epoch's steps for the whole team: the mean loss of each batch over all samples."""
        if self.size == 1:
            return trained
        results = self.gathered((trained.losses, torch.tensor(trained.sizes, dtype=torch.float64)))
        losses, sizes = (torch.stack(parts) for parts in zip(*results, strict=True))
        whole = sizes.sum(0)
        return trained._replace(losses=(losses * sizes).sum(0) / whole, sizes=[int(size) for size in whole])

    def directory(self, spec: RunSpec, out: Any) -> RunDirectory:
        """Return the run's directory. Only the process of rank 0 writes to it."""
        directory = RunDirectory.of(spec, out)
        return directory if self.rank == 0 else Reading(directory.path)


class Reading(RunDirectory):
    """A run directory that is only read, because another process writes to it."""

    def locked(self) -> Any:
        return nullcontext()

    def start(self, spec: RunSpec, context: Mapping[str, Any]) -> None:
        pass

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        pass

    @property
    def end(self) -> None:
        return None

    def next_seal(self, line: Mapping[str, Any]) -> None:
        pass

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        return self.metrics()[:epochs]

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass

    def content(self, tensors: Mapping[str, torch.Tensor], note: Mapping[str, Any]) -> bytes:
        return b""  # nobody writes it

    def write(self, name: str, content: bytes) -> None:
        pass

    def append(self, name: str, content: bytes) -> None:
        pass
