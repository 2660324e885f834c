"""What a run's epochs, the lines of its metrics.jsonl, amount to: whether it goes on, and its summary."""

import math
import statistics
from typing import Any

from fastcifar.experiments import PROTOCOLS, Protocol
from fastcifar.runs.directory import TIMING
from fastcifar.runs.spec import RunSpec

Lines = list[dict[str, Any]]
LARGEST_LOSS = 1e6
"""Of an epoch, nats: a mean cross-entropy above it is a divergence, as guessing among n classes has only ln n."""


def number(value: float) -> float | None:
    """The value, or None where it is not finite: JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def epoch_line(
    epoch: int, train_loss: float, validated: tuple[float, float], seconds: float, images_per_s: float, stall: float
) -> dict[str, Any]:
    """A line of metrics.jsonl: what is written of an epoch, whoever trained it.

    epoch: counted from 1. train_loss: nats. validated: validation loss in nats, and accuracy in [0, 1]. seconds: of
    training and validation. images_per_s: of training. stall: the share of training in [0, 1] that the network waited
    for its batches.
    """
    val_loss, val_accuracy = validated
    return {
        "epoch": epoch,
        "train_loss": number(train_loss),
        "val_loss": number(val_loss),
        "val_accuracy": val_accuracy if math.isfinite(val_loss) else None,
        "seconds": seconds,
        "images_per_s": images_per_s,
        "stall": stall,
    }


def accuracies(lines: Lines) -> list[float]:
    """Of the epochs, [0, 1]."""
    return [line["val_accuracy"] for line in lines]


def diverged(lines: Lines) -> bool:
    """Whether the last epoch's losses are no numbers any more, or above LARGEST_LOSS."""
    losses = [lines[-1][key] for key in ("train_loss", "val_loss")] if lines else []
    return any(loss is None or loss > LARGEST_LOSS for loss in losses)


def over(spec: RunSpec, lines: Lines) -> bool:
    """Whether a run with these epochs behind it is at its end."""
    return diverged(lines) or len(lines) >= spec.epochs or PROTOCOLS[spec.protocol].stops(accuracies(lines))


def standing(protocol: Protocol, lines: Lines) -> dict[str, Any]:
    """What the epochs so far amount to; val_accuracy and val_loss are those of the kept epoch, None without one."""
    finite = lines[:-1] if diverged(lines) else lines
    known = accuracies(finite)
    kept = max((n for n in range(1, len(finite) + 1) if protocol.keeps(known[:n])), default=None)
    return {
        "epochs": len(lines),
        "kept_epoch": kept,
        "val_accuracy": finite[kept - 1]["val_accuracy"] if kept else None,
        "val_loss": finite[kept - 1]["val_loss"] if kept else None,
        "seconds": sum(line["seconds"] for line in lines),
        **{key: statistics.median(line[key] for line in lines) for key in TIMING[1:] if lines and key in lines[0]},
    }


def summary_of(spec: RunSpec, lines: Lines, parameters: int) -> dict[str, Any]:
    """status: finished or diverged; the rest is `standing`'s."""
    status = "diverged" if diverged(lines) else "finished"
    return {"status": status, "parameters": parameters, **standing(PROTOCOLS[spec.protocol], lines)}
