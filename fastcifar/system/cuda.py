"""CUDA graphs: work is recorded once, then replayed without a kernel launch by the host for each kernel."""

from collections.abc import Callable

import torch

WARM_UP = 3
"""The warm-up calls before a recording, on a side stream. They compile kernels and fill the allocator's pools, as
torch's notes on CUDA graphs require."""

Record = Callable[[Callable[[], object], Callable[[], object]], Callable[[], None]]
"""The type of `recorded`: it takes a warm-up and the work, and returns a function that does the work again."""


def recorded(warm_up: Callable[[], object], work: Callable[[], object]) -> Callable[[], None]:
    """Record ``work`` on the current device; return a function that replays the work on the current stream.

    warm_up: the function to call WARM_UP times before the recording. The work must read and write the same memory each
    time, and no decision on the host may depend on device data. Raises torch's error if the work cannot be recorded.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            warm_up()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        work()
    return graph.replay
