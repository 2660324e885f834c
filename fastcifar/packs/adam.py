"""Adam and AdamW of all runs of a stack, in one launch on a GPU. Each run's optimizer keeps its state, as views.

Shape suffixes: R runs, K parameters of a network.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from fastcifar.packs.stacks import Stacks, dense_like
from fastcifar.training.learner import Learner
from fastcifar.training.schedule import rates

ADAMS = ("adam", "adamw")  # the optimizers of `StackedAdam`


def has_kernel(device: torch.device) -> bool:
    """Return whether the runs' steps can be one launch on a device. On a CPU the runs' own optimizers are as fast."""
    return device.type != "cpu" and find_spec("triton") is not None


class StackedAdam:
    """The optimizer of those runs of a stack that have Adam or AdamW. The others keep their own, and are masked here.

    The state of a run's optimizer (step counts and moments) becomes views of this object's tensors. So the run's
    checkpoint holds it, and the run may go on alone. Learning rates and step counts are read from device memory.
    """

    def __init__(self, stacks: Stacks, learners: Sequence[Learner]) -> None:
        from fastcifar.kernels.gpu import adam

        self._kernel, self._stacks = adam, stacks
        self._specs = [learner.spec for learner in learners]
        self.runs = [n for n, spec in enumerate(self._specs) if spec.optimizer in ADAMS]
        """The runs that this object steps, by their place in the stack."""
        device, shape = stacks.flat.device, (len(stacks.blocks), stacks.runs)
        self._steps_KR = torch.zeros(shape, device=device)
        self._moments = [self._moment(key, learners) for key in ("exp_avg", "exp_avg_sq")]
        for n in self.runs:
            optimizer = learners[n].optimizer
            for k, (name, parameter) in enumerate(stacks.parameters[n].items()):
                state, step = optimizer.state[parameter], self._steps_KR[k, n]
                step.copy_(state["step"])
                state["step"] = step
                for key, (_, views) in zip(("exp_avg", "exp_avg_sq"), self._moments, strict=True):
                    state[key] = views[name][n]
        (self._betas,) = {learners[n].optimizer.defaults["betas"] for n in self.runs}
        (self._eps,) = {learners[n].optimizer.defaults["eps"] for n in self.runs}
        self._settings = adam.settings(
            [
                adam.Setting(
                    active=n in self.runs,
                    l2=spec.l2 if spec.optimizer == "adam" else 0.0,
                    decay=spec.l2 if spec.optimizer == "adamw" else 0.0,
                )
                for n, spec in enumerate(self._specs)
            ],
            self._betas,
            device,
        )
        blocks = list(stacks.blocks.values())
        self._pieces = adam.pieces([(block.start, block.values) for block in blocks], stacks.runs, device)
        self._low = torch.empty(stacks.boundary, dtype=stacks.low, device=device)
        self._full = torch.empty(stacks.size - stacks.boundary, device=device)
        self._gradients = {
            name: block.of(self._low, stacks.runs)
            if block.start < stacks.boundary
            else block.of(self._full, stacks.runs, stacks.boundary)
            for name, block in stacks.blocks.items()
        }
        self._rates: Tensor | None = None

    def _moment(self, key: str, learners: Sequence[Learner]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a moment of all runs: its buffer, and its stacks by the parameter's name. Other runs have zeros."""
        flat, zero = self._stacks.buffer(), torch.zeros((), device=self._stacks.flat.device)
        own = [
            [
                learner.optimizer.state[parameter][key] if n in self.runs else zero
                for parameter in self._stacks.parameters[n].values()
            ]
            for n, learner in enumerate(learners)
        ]
        return flat, self._stacks.moved(flat, own)

    def begin(self, epochs: Sequence[int], steps: int) -> None:
        """Prepare for the steps of an epoch. epochs: each run's epoch, from 1. steps: the steps of each epoch."""
        table = torch.stack([rates(spec, epoch, steps) for spec, epoch in zip(self._specs, epochs, strict=True)])
        if self._rates is None:
            self._rates = torch.empty(table.shape, device=self._steps_KR.device)
        self._rates.copy_(table)
        self._settings.cursor.zero_()

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Do a step of each run. gradients: (R, ...) by the parameter's name, in the dtype of the step's weights."""
        assert self._rates is not None
        for dtype in {place.dtype for place in self._gradients.values()}:
            places = {name: place for name, place in self._gradients.items() if place.dtype == dtype}
            alike = [dense_like(gradients[name], place) for name, place in places.items()]
            torch._foreach_copy_(list(places.values()), alike)
        (first, _), (second, _) = self._moments
        self._kernel.advance(self._steps_KR, self._rates, self._settings)
        self._kernel.step(
            self._stacks.flat, (self._low, self._full), (first, second), self._stacks.cast,
            self._pieces, self._settings, self._betas, self._eps,
        )  # fmt: skip
