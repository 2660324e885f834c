"""Mixed precision under vmap, where torch's autocast does nothing: each operation's types are those of a run alone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LOW: frozenset[Callable[..., Any]] = frozenset({F.linear, F.conv2d, Tensor.matmul, Tensor.__matmul__})
FLOAT32_ON_CUDA: frozenset[Callable[..., Any]] = frozenset({F.layer_norm, Tensor.softmax})
"""what the models do that autocast casts, of the operations it documents for each device; on CPUs only those of LOW"""


class Casting(TorchFunctionMode):
    """Casts the arguments of operations in LOW to a type, those of FLOAT32_ON_CUDA to float32 there."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self._types = dict.fromkeys(LOW, dtype)
        if device.type == "cuda":
            self._types |= dict.fromkeys(FLOAT32_ON_CUDA, torch.float32)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        named = named or {}
        dtype = self._types.get(function)
        if dtype is not None:
            arguments = [_cast(value, dtype) for value in arguments]
            named = {name: _cast(value, dtype) for name, value in named.items()}
        result = function(*arguments, **named)
        # taken apart by vmap, a norm multiplies by weights in float32
        return result.to(arguments[0].dtype) if function is F.layer_norm else result


def casting(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision of a type for what runs inside; nothing for float32."""
    return nullcontext() if dtype == torch.float32 else Casting(dtype, device)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
