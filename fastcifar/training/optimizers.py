"""The optimizers of a run: one function for each name of `spec.OPTIMIZERS`.

An optimizer's state is made with the optimizer, as zeros, so that a checkpoint can be copied into it and a CUDA graph
can record its first step.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from fastcifar.runs.spec import RunSpec
from fastcifar.training.muon import Muon

MOMENTUM = 0.9  # of SGD, as in most recipes for CIFAR-10


def optimizer_of(parameters: Sequence[Tensor], spec: RunSpec, lr: float | Tensor) -> torch.optim.Optimizer:
    """Return the optimizer of a run for its trained parameters.

    lr: the learning rate; a tensor, on the parameters' device, can be changed between steps. Raises UsageError where
    this version of torch lacks the optimizer.
    """
    return MAKERS[spec.optimizer](parameters, lr, spec.l2)


def _adam(parameters: Sequence[Tensor], lr: float | Tensor, l2: float) -> torch.optim.Optimizer:
    return _counting(torch.optim.Adam(parameters, lr=lr, weight_decay=l2, fused=True, capturable=_on_cuda(parameters)))


def _adamw(parameters: Sequence[Tensor], lr: float | Tensor, l2: float) -> torch.optim.Optimizer:
    return _counting(torch.optim.AdamW(parameters, lr=lr, weight_decay=l2, fused=True, capturable=_on_cuda(parameters)))


def _sgd(parameters: Sequence[Tensor], lr: float | Tensor, l2: float) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(parameters, lr=lr, weight_decay=l2, momentum=MOMENTUM, nesterov=True, fused=True)
    for parameter in parameters:
        optimizer.state[parameter] = {"momentum_buffer": _zeros(parameter)}
    return optimizer


def _muon(parameters: Sequence[Tensor], lr: float | Tensor, l2: float) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    return Muon(matrices, lr, l2, _sgd(others, lr, l2) if others else None)


MAKERS: Mapping[str, Callable[[Sequence[Tensor], float | Tensor, float], torch.optim.Optimizer]] = MappingProxyType(
    {"adam": _adam, "adamw": _adamw, "sgd": _sgd, "muon": _muon}
)


def _counting(optimizer: torch.optim.Adam) -> torch.optim.Adam:
    """Initialise the state of Adam or AdamW, as its first step would do."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": _zeros(parameter),
                "exp_avg_sq": _zeros(parameter),
            }
    return optimizer


def _zeros(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter, memory_format=torch.preserve_format, requires_grad=False)


def _on_cuda(parameters: Sequence[Tensor]) -> bool:
    return parameters[0].device.type != "cpu"
