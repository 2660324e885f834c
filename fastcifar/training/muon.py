"""Muon for the matrices of a network, with another optimizer for its other parameters."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastcifar.errors import UsageError


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon with its defaults (Jordan et al., 2024), for parameters of two and more dimensions.

    A convolution's weight (O, I, H, W) is a matrix (O, I * H * W). Weight decay is decoupled, as in AdamW. torch's Muon
    moves a matrix that starts at zero, and the step scales this matrix by the learning rate. So the learning rate can
    be a tensor that a CUDA graph reads, and the weights can have any strides.
    """

    def __init__(
        self, matrices: Sequence[Tensor], lr: float | Tensor, l2: float, others: torch.optim.Optimizer | None
    ) -> None:
        """others: the optimizer of the other parameters, which each step and each `zero_grad` calls.

        Raises UsageError where this version of torch has no Muon.
        """
        if not hasattr(torch.optim, "Muon"):
            raise UsageError(
                f"optimizer muon needs torch.optim.Muon, which torch {torch.__version__} lacks; pip install --upgrade "
                "torch, or choose --set optimizer=sgd"
            )
        super().__init__(matrices, {"lr": lr, "weight_decay": l2})
        self._matrices, self._others = list(matrices), others
        self._moves = [nn.Parameter(torch.zeros_like(_flat(matrix))) for matrix in matrices]
        self._muon = torch.optim.Muon(self._moves, lr=1.0, weight_decay=0.0)
        for matrix, move in zip(matrices, self._moves, strict=True):
            self.state[matrix] = self._muon.state[move] = {"momentum_buffer": torch.zeros_like(_flat(matrix))}
        if others is not None:
            self.state.update(others.state)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do a step. closure: not supported; it must be None."""
        assert closure is None
        (group,) = self.param_groups
        for matrix, move in zip(self._matrices, self._moves, strict=True):
            move.zero_()
            move.grad = None if matrix.grad is None else _flat(matrix.grad)
        self._muon.step()
        for matrix, move in zip(self._matrices, self._moves, strict=True):
            if matrix.grad is not None:
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(move.view(matrix.shape) * group["lr"])
            move.grad = None
        if self._others is not None:
            self._others.step()

    def zero_grad(self, *arguments: Any, **named: Any) -> None:
        super().zero_grad(*arguments, **named)
        if self._others is not None:
            self._others.zero_grad(*arguments, **named)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().flatten(1).contiguous()
