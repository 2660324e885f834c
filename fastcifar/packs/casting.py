"""Mixed precision under vmap, where torch's autocast does nothing. Each operation gets the dtypes of a run alone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LOW: frozenset[Callable[..., Any]] = frozenset({F.linear, F.conv2d, Tensor.matmul, Tensor.__matmul__})
FLOAT32_ON_CUDA: frozenset[Callable[..., Any]] = frozenset({F.layer_norm, Tensor.softmax})
"""The models' operations that autocast casts, by torch's documentation of autocast for each device: those of LOW to the
low dtype, on CPU and CUDA; those of FLOAT32_ON_CUDA to float32, on CUDA only."""


class Casting(TorchFunctionMode):
    """A mode that casts the arguments of LOW operations to a dtype, and on CUDA those of FLOAT32_ON_CUDA to float32."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self._types = dict.fromkeys(LOW, dtype)
        if device.type != "cpu":
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
        # vmap decomposes layer_norm, and the product with its float32 weights is float32
        return result.to(arguments[0].dtype) if function is F.layer_norm else result


def casting(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Return a context manager that computes in mixed precision of a dtype, or changes nothing for float32."""
    return nullcontext() if dtype == torch.float32 else Casting(dtype, device)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
