"""What takes part in a contest of kernels: whether its pixels are right, and how fast it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.lib import rows
from bench.lib.device import repeated, replayed, times_to_last
from fastcifar.system.measure import alternate
from fastcifar.throughput.verify import ROUNDING

TIES = 1e-5  # share of pixel values: rotations by float coordinates, which take the neighbour of a pixel at a tie
TURN_SECONDS = 0.02  # the least a turn takes on a GPU


@dataclass(frozen=True)
class Rival:
    """One way to make a recipe's batches."""

    images: int
    """that a call handles"""
    call: Callable[[], Tensor]
    """does the work; returns its last result, (B, 3, S, S)"""
    expected: Tensor | None
    """the reference's pixels; None where the work is another"""
    std: float = 1.0
    """the least that pixels are divided by"""
    every: int = 1
    """``expected`` has so many times fewer images than the result: its first, and each so much further on"""
    differs: str = ""
    """in what the work is another"""
    recordable: bool = False
    """whether a CUDA graph of a call does the same work when it is replayed"""


def checked(contestant: Rival, result: Tensor) -> dict[str, Any]:
    """The part of a row that says how far a result is from the reference's.

    A value is apart where it differs by more than float32 arithmetic in another order and one unit in the last place
    of the dtype; pixels_apart counts the pixels with such a value, and verified means that fewer than TIES are.
    """
    if contestant.expected is None:
        return {"max_abs_dev": None, "pixels_apart": None, "verified": False, "reason": contestant.differs}
    wanted = contestant.expected.float()
    deviation = (result[:: contestant.every].cpu().float() - wanted).abs()
    apart = ~(deviation <= ROUNDING / contestant.std + torch.finfo(result.dtype).eps * wanted.abs())  # nan is apart
    share = float(apart.float().mean())
    return {
        "max_abs_dev": float(deviation.max()),
        "pixels_apart": int(apart.any(1).sum()),
        "verified": share < TIES,
        "reason": None if share < TIES else f"{share:.2%} of its pixel values are not the reference's",
    }


def absent(reason: str) -> dict[str, Any]:
    """The part of a row that has no speed."""
    speed = dict.fromkeys(("images_per_s", "images_per_s_min", "images_per_s_max"))
    return {**speed, "repeats": 0, "max_abs_dev": None, "pixels_apart": None, "verified": False, "reason": reason}


def race(entered: Mapping[str, Rival], repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Check the contestants, then time them turn by turn; for each a row, without what all have in common.

    One that raises has no speed, and its row says why. On a GPU a call is repeated until a turn takes TURN_SECONDS.
    """
    found: dict[str, dict[str, Any]] = {}
    calls, images = {}, {}

    def enter(name: str, contestant: Rival) -> None:
        on_gpu = device.type == "cuda"
        call = replayed(contestant.call) if on_gpu and contestant.recordable else contestant.call
        found[name] = checked(contestant, call())
        times = times_to_last(call, TURN_SECONDS, device) if on_gpu else 1
        calls[name], images[name] = repeated(call, times), times * contestant.images

    for name, contestant in entered.items():
        try:
            enter(name, contestant)
        except Exception as error:  # noqa: PERF203 (whatever compiles, launches and allocates; the others can be timed)
            found[name] = absent(f"{type(error).__name__}: {error}")
    timings = alternate(calls, repeats, warmup=2, device=str(device)) if calls else {}
    speeds = {name: rows.rates(timing, images[name]) for name, timing in timings.items()}
    return [{"kernel": name, **speeds.get(name, {}), **row} for name, row in found.items()]
