"""The memory of a stack: one flat buffer for the weights of all runs, and others of the same layout.

A parameter has a block in the buffer: (R, its values), the values in the order of its strides. The blocks of parameters
that mixed precision casts come first, so that one launch casts them all.

Shape suffixes: R runs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

ALIGNED = 32  # values: a block begins at a multiple of 64 bytes, also in a 16-bit dtype
CAST = (nn.Linear, nn.Conv2d)  # layers whose parameters take part in mixed precision; see `casting.LOW`


class Block(NamedTuple):
    """The place of a parameter of all runs in a flat buffer."""

    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """The strides of one run's values. They are dense, in any order."""

    @property
    def values(self) -> int:
        """The number of values of one run."""
        return torch.Size(self.shape).numel()

    def of(self, flat: Tensor, runs: int, first: int = 0) -> Tensor:
        """Return the parameter's stack, (R, ...), as a view of a flat buffer that begins with value ``first``."""
        return flat.as_strided((runs, *self.shape), (self.values, *self.strides), self.start - first)


class Stacks:
    """The weights of several networks of one kind in one buffer. The networks' parameters become views of it."""

    def __init__(self, networks: Sequence[nn.Module], low: torch.dtype = torch.float32) -> None:
        """low: the dtype in which layers of CAST compute; float32 for all layers alike."""
        first = networks[0]
        self.runs, self.low = len(networks), low
        self.parameters = [dict(network.named_parameters()) for network in networks]
        cast = _cast(first) if low != torch.float32 else set()
        self.blocks: dict[str, Block] = {}
        end = 0
        names = list(self.parameters[0])
        for name in sorted(names, key=lambda name: name not in cast):  # a stable sort
            shape, strides = _layout(first, name, self.parameters[0][name])
            block = self.blocks[name] = Block(end, shape, strides)
            end += -(-block.values * self.runs // ALIGNED) * ALIGNED
        self.blocks = {name: self.blocks[name] for name in names}
        self.size = end
        """The values of a buffer, with the gaps between blocks."""
        self.boundary = min((block.start for name, block in self.blocks.items() if name not in cast), default=end)
        """The first value of the blocks that are not cast."""
        self.flat = self.buffer()
        self.views = self.moved(self.flat, [list(each.values()) for each in self.parameters])
        """The stacks of the weights by the parameter's name, (R, ...) float32."""
        for run, own in enumerate(self.parameters):
            for name, parameter in own.items():
                parameter.data = self.views[name][run]
        device = self.flat.device
        self.cast = torch.empty(self.boundary, dtype=low, device=device)
        """The values below `boundary` in the dtype `low`, as they were when `refresh` was called or written since."""
        self.leaves = {
            name: (block.of(self.cast, self.runs) if name in cast else self.views[name]).detach().requires_grad_()
            for name, block in self.blocks.items()
        }
        """The weights for a step, which require gradients: those of CAST's layers are views of `cast`. A gradient with
        respect to them has the dtype in which it is computed."""

    def buffer(self) -> Tensor:
        """Return a buffer of this layout, float32 zeros."""
        return torch.zeros(self.size, device=self.parameters[0][next(iter(self.blocks))].device)

    def moved(self, flat: Tensor, tensors: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
        """Copy tensors into a buffer of this layout. Returns its stacks by the parameter's name.

        tensors: for each run a tensor for each parameter, in the order of the network's parameters.
        """
        stacks = {name: block.of(flat, self.runs) for name, block in self.blocks.items()}
        for run, own in enumerate(tensors):
            for stack, tensor in zip(stacks.values(), own, strict=True):
                stack[run].copy_(tensor.detach())
        return stacks

    @torch.no_grad()
    def refresh(self) -> None:
        """Cast the weights of CAST's layers anew, in one launch."""
        if self.boundary:
            self.cast.copy_(self.flat[: self.boundary])


def dense_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor with the strides of ``like``: a view where it lies in memory like that, else a copy."""
    theirs = zip(tensor.shape, tensor.stride(), like.stride(), strict=True)
    if all(size == 1 or ours == wanted for size, ours, wanted in theirs):
        return tensor.as_strided(like.shape, like.stride())
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


def _cast(network: nn.Module) -> set[str]:
    """Return the names of the parameters of a network's layers of CAST."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in network.named_modules()
        if isinstance(module, CAST)
        for name, _ in module.named_parameters(recurse=False)
    }


def _layout(network: nn.Module, name: str, parameter: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape and the strides of a run's parameter in its block.

    A Linear layer's weight (out, in) lies as (in, out), as the gradient that autograd makes of a batched product does.
    Other parameters keep their strides.
    """
    owner = network.get_submodule(name.rpartition(".")[0])
    if isinstance(owner, nn.Linear) and parameter.ndim == 2:
        return tuple(parameter.shape), (1, parameter.shape[0])
    return tuple(parameter.shape), parameter.stride()
