"""The ceiling: how fast a device's memory takes what pipelines write to it."""

from fastcifar.measure import alternate, memory_bandwidth

GPU_BYTES = 1 << 30  # filled at once: many times a GPU's cache


def write_bandwidth(device: str, threads: int) -> float:
    """Bytes per second that filling the memory of ``device`` reaches; of the host's, with ``threads`` threads.

    Batches that stay in the cache may be written faster than that.
    """
    if device == "cpu":
        return memory_bandwidth(threads).write
    import torch

    target = torch.empty(GPU_BYTES, dtype=torch.uint8, device=device)
    timing = alternate({"write": lambda: target.fill_(7)}, repeats=7, device=device)["write"]
    return GPU_BYTES / timing.median
