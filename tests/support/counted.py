"""Count the operations that torch dispatches. On CUDA, each is one launch or more, unless it is a view."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
"""Operations that need no launch, besides views."""


class Dispatched(TorchDispatchMode):
    """A dispatch mode that counts, by name, the operations within it that compute or copy. launches: their number."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        out = function(*arguments, **(named or {}))
        name = function.overloadpacket.__name__
        if name not in FREE and not is_view(function):
            self.counts[name] += 1
        return out

    @property
    def launches(self):
        return self.counts.total()


def is_view(function: torch._ops.OpOverload) -> bool:
    """Return whether an operation's result shares memory with an argument that the operation does not write."""
    returns = function._schema.returns
    return bool(returns) and all(each.alias_info and not each.alias_info.is_write for each in returns)
