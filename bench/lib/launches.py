"""Trace the kernel launches of a training step as a CUDA graph records it, on a machine without a GPU.

The step runs on torch's device "meta", whose tensors have shapes and no memory, and takes the branches for a GPU. It is
the step of `training.steps.Captured`: pixels, dropout masks, network, optimizer and the loss's row. torch's operations
are counted as they are dispatched, and our Triton kernels where they are launched.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fastcifar.data.dataset import Dataset
from fastcifar.packs.casting import casting
from fastcifar.packs.feed import Feed
from fastcifar.packs.stacked import Stacked
from fastcifar.pipeline import open_pipeline
from fastcifar.pipeline.arguments import dtype_of
from fastcifar.runs.spec import RunSpec
from fastcifar.training.batches import requests
from fastcifar.training.footprint import counter_of_flops
from fastcifar.training.learner import Learner
from fastcifar.training.steps import Captured

META = torch.device("meta")
CHUNK = 65_536
"""The values that a block of torch's multi-tensor kernels handles (kChunkSize of ATen's MultiTensorApply.cuh)."""
FREE = ("empty", "_unsafe_view", "_record_function", "promote_types")
"""Parts of the names of operations that launch nothing, although their schema does not say so."""
READ_AND_WRITTEN = {"write_step": (0, 3, 4)}
"""The places of the arguments of our kernels that are both read and written: the weights and moments of Adam."""
MULTIPLIED = {
    "write_convolved": (1, 3, ("KERNEL", "KERNEL", "C")),
    "write_weight_gradients": (1, 2, ("KERNEL", "KERNEL", "C")),
    "write_pixel_gradients": (1, 2, ("KERNEL", "KERNEL", "C")),
    "write_linear": (1, 3, ("IN",)),
    "write_linear_gradients": (1, 1, ("IN",)),
    "write_attention": (2, 1, ("TOKENS",)),
    "write_attention_gradients": (5, 1, ("TOKENS",)),  # one of them computes the weights again
}
"""Those of our kernels that multiply matrices. For each: the number of products, the place of an argument, and names of
constants. A product takes as many multiply-adds as that argument has values, times these constants. This is the work
that torch counts, too: the padding of a convolution's images counts, and the padding of a kernel's tiles does not."""
AMP = torch.device("cuda")  # the device whose mixed precision is traced


class Launch(NamedTuple):
    """A launch of a kernel, or an operation of torch that takes at least one launch."""

    name: str
    moved: int
    """The bytes that it reads and writes."""
    flops: int
    blocks: int | None = None
    """The blocks of threads of the launch; None where torch chooses enough of them to fill a device."""
    groups: int = 1
    """The groups of a convolution."""


class Trace(TorchDispatchMode):
    """A dispatch mode that lists the launches of the operations and Triton kernels within it.

    An operation of torch counts as one launch, unless it only returns a view or allocates memory. The backward of a
    convolution counts as one launch for each gradient. Many operations take more launches on a device: the number is a
    lower bound.
    """

    def __init__(self, flops: FlopCounterMode | None = None) -> None:
        """Create the mode. flops: torch's counter of floating-point operations, which must be entered first."""
        super().__init__()
        self._counter = flops
        self.launches: list[Launch] = []

    @property
    def counts(self) -> Counter[str]:
        """The launches by name."""
        return Counter(launch.name for launch in self.launches)

    @property
    def moved(self) -> int:
        """The bytes that all launches read and write."""
        return sum(launch.moved for launch in self.launches)

    @property
    def flops(self) -> int:
        """The floating-point operations of all launches."""
        return sum(launch.flops for launch in self.launches)

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named, name = named or {}, function.overloadpacket.__name__
        before = self._total()
        # "meta" has no kernel for these, which change their arguments and return nothing
        out = None if name.startswith("_fused_") else function(*arguments, **named)
        flops = self._total() - before
        if makes_nothing(function):
            return out
        moved, parts, blocks = _moved(function, arguments, named, out), 1, None
        if name == "convolution_backward":
            parts = sum(arguments[-1])
        elif name.startswith(("_fused_", "_foreach_")):
            blocks = sum(math.ceil(tensor.numel() / CHUNK) for tensor in arguments[0])
        # the groups are the last argument of a convolution, and the last but one of its backward
        groups = arguments[{"convolution": -1, "convolution_backward": -2}[name]] if "convolution" in name else 1
        self.launches += [Launch(name, moved // parts, flops // parts, blocks, groups)] * parts
        return out

    def launched(
        self, name: str, grid: tuple[int, ...], arguments: tuple[Any, ...], constants: Mapping[str, Any]
    ) -> None:
        """Add a launch of a Triton kernel. Each argument is read or written once, or both by READ_AND_WRITTEN.

        The dataset's images count with one image for each program.
        """
        programs, moved = math.prod(grid), 0
        for n, tensor in enumerate(arguments):
            if isinstance(tensor, Tensor) and not any(tensor is other for other in arguments[:n]):
                rows = min(len(tensor), programs) if tensor.dtype == torch.uint8 else len(tensor)
                times = 2 if n in READ_AND_WRITTEN.get(name, ()) else 1
                moved += times * rows * tensor[0].numel() * tensor.element_size() if rows else 0
        self.launches.append(Launch(name, moved, _multiplied(name, arguments, constants), programs))

    def _total(self) -> int:
        return 0 if self._counter is None else self._counter.get_total_flops()


def makes_nothing(function: Any) -> bool:
    """Return whether an operation only returns a view, allocates memory, or concerns the host alone."""
    name, views = function.__name__, [result.alias_info for result in function._schema.returns]
    return any(word in name for word in FREE) or any(alias is not None and not alias.is_write for alias in views)


def _moved(function: Any, arguments: Any, named: dict[str, Any], out: Any) -> int:
    """Return the bytes that an operation reads and writes: its arguments, once more if changed, and its new results."""
    total = _bytes((arguments, named))
    if function is torch.ops.aten.copy_.default:
        return total  # the target of a copy is written but not read
    for value, argument in zip(arguments, function._schema.arguments, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write and argument.name != "grads":
            total += _bytes(value)
    changed = [result.alias_info is not None for result in function._schema.returns]
    return total if any(changed) else total + _bytes(out)


def _multiplied(name: str, arguments: tuple[Any, ...], constants: Mapping[str, Any]) -> int:
    """Return the floating-point operations of a Triton kernel's products of matrices, two for each multiply-add."""
    if name not in MULTIPLIED:
        return 0
    products, place, sizes = MULTIPLIED[name]
    return 2 * products * arguments[place].numel() * math.prod(constants[size] for size in sizes)


def _bytes(values: Any) -> int:
    """Return the bytes of all tensors among the values. An expanded tensor counts with the size of its storage."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return sum(min(t.numel() * t.element_size(), t.untyped_storage().nbytes()) for t in tensors)


class _Traced(Exception):
    """Raised when the step has been traced, so that nothing else is recorded."""


@contextmanager
def without_a_device(trace: Trace) -> Iterator[None]:
    """Let the code for a GPU run on META in this context. Launches of Triton kernels go to ``trace`` and do nothing."""
    from triton.runtime.jit import KernelInterface

    def launcher(kernel: Any, grid: tuple[int, ...]) -> Callable[..., None]:
        return lambda *arguments, **constants: trace.launched(kernel.__name__, grid, arguments, constants)

    with ExitStack() as patches:
        for target, name, value in (
            (KernelInterface, "__getitem__", launcher),
            (import_module("torch.optim.optimizer"), "_get_fused_kernels_supported_devices", lambda: ["meta"]),
        ):
            patches.enter_context(mock.patch.object(target, name, value))
        # initial weights take seconds, and "meta" does not keep them
        patches.enter_context(mock.patch("fastcifar.models.build.initialise", lambda model, seed: model))
        # autocast refuses the device; a stack's own mixed precision casts the same operations
        patches.enter_context(
            mock.patch.object(Learner, "autocast", lambda self: casting(dtype_of(self.spec.precision), AMP))
        )
        yield


def traced(specs: list[RunSpec], dataset: Dataset, way: str | None, flops: bool = True) -> Trace:
    """Trace a step of a pack in a way of `packs.names.STACKED`, or of one run alone where the way is None.

    flops: also count floating-point operations, which takes longer.
    """
    with ExitStack() as opened:
        counter = opened.enter_context(counter_of_flops()) if flops else None
        trace = Trace(counter)
        opened.enter_context(without_a_device(trace))
        learners = [Learner.new(spec, len(dataset.classes), META) for spec in specs]
        arguments = [requests(spec, META)[0] for spec in specs]
        trainee: Stacked | Learner = learners[0]
        if way is None:
            renderer = opened.enter_context(open_pipeline("resident", dataset, **arguments[0])).renderer()
        else:
            feed = opened.enter_context(Feed.open("resident", dataset, arguments, [0] * len(specs)))
            trainee, renderer = Stacked(learners, feed.which, way), feed.renderer()
        assert renderer is not None

        def record(warm_up: Callable[[], object], work: Callable[[], object]) -> Callable[[], None]:
            with trace:
                warm_up()
                trace.launches.clear()
                work()
            raise _Traced

        try:
            Captured(trainee, renderer, record)
        except _Traced:
            return trace
        raise AssertionError("a dataset smaller than a batch has no step to capture")
