"""Recording work on a CUDA device as a graph, which is then replayed without a launch by the host for each kernel."""

from collections.abc import Callable

import torch

WARM_UP = 3
"""calls before a recording, on a side stream: they compile kernels and fill the allocator's pools, as torch's notes on
CUDA graphs ask"""

Record = Callable[[Callable[[], object], Callable[[], object]], Callable[[], None]]
"""the type of `recorded`: it takes a warm-up and the work, and returns a function that does the work again"""


def recorded(warm_up: Callable[[], object], work: Callable[[], object]) -> Callable[[], None]:
    """Record ``work`` on the current device; the function that is returned replays it on the current stream.

    warm_up: it is called WARM_UP times before. The work must read and write the same memory each time, and decide
    nothing on the host. Raises what torch raises where the work cannot be recorded.
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
