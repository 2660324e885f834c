"""Contests of kernels: each contestant's pixels are compared with the reference, then its speed is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.lib import rows
from bench.lib.device import repeated, replayed, times_to_last
from fastcifar.system.measure import alternate
from fastcifar.throughput.verify import ROUNDING

TIES = 1e-5  # share of pixel values that may differ: at a tie, float coordinates may rotate to the neighbouring pixel
TURN_SECONDS = 0.02  # least seconds of a turn on a GPU


@dataclass(frozen=True)
class Rival:
    """One way to make a recipe's batches."""

    images: int
    """The images of a call."""
    call: Callable[[], Tensor]
    """Do the work and return its last result, (B, 3, S, S)."""
    expected: Tensor | None
    """The reference's pixels; None where the contestant does other work."""
    std: float = 1.0
    """The smallest divisor of the pixels in normalisation."""
    every: int = 1
    """``expected`` has the first of the result's images and every ``every``-th after it."""
    differs: str = ""
    """How the contestant's work differs, in words."""
    recordable: bool = False
    """Whether a CUDA graph of a call does the same work when it is replayed."""


def checked(contestant: Rival, result: Tensor) -> dict[str, Any]:
    """Return the part of a row that compares a result with the reference.

    A value is wrong where it differs by more than float32 arithmetic in another order and one unit in the last place of
    the dtype. pixels_apart counts the pixels with a wrong value. verified: the share of wrong values is below TIES.
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
    """Return the part of a row without a speed."""
    speed = dict.fromkeys(("images_per_s", "images_per_s_min", "images_per_s_max"))
    return {**speed, "repeats": 0, "max_abs_dev": None, "pixels_apart": None, "verified": False, "reason": reason}


def race(entered: Mapping[str, Rival], repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Check the contestants, then time them in turns. Returns a row for each, without the fields that all rows share.

    A contestant that raises an error has no speed, and its row has the error. On a GPU, a call is repeated until a turn
    takes TURN_SECONDS.
    """
    checks: dict[str, dict[str, Any]] = {}
    calls, images = {}, {}

    def enter(name: str, contestant: Rival) -> None:
        on_gpu = device.type == "cuda"
        call = replayed(contestant.call) if on_gpu and contestant.recordable else contestant.call
        checks[name] = checked(contestant, call())
        times = times_to_last(call, TURN_SECONDS, device) if on_gpu else 1
        calls[name], images[name] = repeated(call, times), times * contestant.images

    for name, contestant in entered.items():
        try:
            enter(name, contestant)
        except Exception as error:  # noqa: PERF203 (compiling, launching or allocating may fail; the others can be timed)
            checks[name] = absent(f"{type(error).__name__}: {error}")
    timings = alternate(calls, repeats, warmup=2, device=str(device)) if calls else {}
    speeds = {name: rows.rates(timing, images[name]) for name, timing in timings.items()}
    return [{"kernel": name, **speeds.get(name, {}), **row} for name, row in checks.items()]
