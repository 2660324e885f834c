"""The result of a run's epochs, which are the lines of metrics.jsonl: whether the run goes on, and its summary."""

import math
import statistics
import time
from typing import Any

from fastcifar.experiments import PROTOCOLS, Protocol
from fastcifar.runs.directory import RATES
from fastcifar.runs.spec import RunSpec

Lines = list[dict[str, Any]]
LARGEST_LOSS = 1e6
"""The largest mean cross-entropy of an epoch, in nats. A larger one is a divergence: guessing n classes gives ln n."""


def number(value: float) -> float | None:
    """Return the value, or None where it is not finite, because JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def epoch_line(
    epoch: int,
    train_loss: float,
    validated: tuple[float, float],
    lr: float,
    seconds: float,
    images_per_s: float,
    stall: float,
) -> dict[str, Any]:
    """Return the line of metrics.jsonl for an epoch that ends now.

    epoch: counted from 1. train_loss: in nats. validated: validation loss in nats, and accuracy in [0, 1]. lr: the
    learning rate of the last step. seconds: the time of training and validation. images_per_s: the throughput of
    training. stall: the share of the training time, in [0, 1], in which the network waited for batches. The entry time
    is the end of the epoch, in seconds since 1970-01-01 UTC.
    """
    val_loss, val_accuracy = validated
    return {
        "epoch": epoch,
        "train_loss": number(train_loss),
        "val_loss": number(val_loss),
        "val_accuracy": val_accuracy if math.isfinite(val_loss) else None,
        "lr": lr,
        "time": round(time.time(), 3),
        "seconds": seconds,
        "images_per_s": images_per_s,
        "stall": stall,
    }


def accuracies(lines: Lines) -> list[float]:
    """Return the validation accuracy of each epoch, in [0, 1]."""
    return [line["val_accuracy"] for line in lines]


def diverged(lines: Lines) -> bool:
    """Return whether a loss of the last epoch is not finite or is above LARGEST_LOSS."""
    losses = [lines[-1][key] for key in ("train_loss", "val_loss")] if lines else []
    return any(loss is None or loss > LARGEST_LOSS for loss in losses)


def over(spec: RunSpec, lines: Lines) -> bool:
    """Return whether a run ends after these epochs: by divergence, by its number of epochs, or by early stopping."""
    return diverged(lines) or len(lines) >= spec.epochs or PROTOCOLS[spec.protocol].stops(accuracies(lines))


def standing(protocol: Protocol, lines: Lines) -> dict[str, Any]:
    """Return the results of the epochs so far. val_accuracy and val_loss belong to the kept epoch; None without one."""
    finite = lines[:-1] if diverged(lines) else lines
    kept = protocol.kept(accuracies(finite))
    return {
        "epochs": len(lines),
        "kept_epoch": kept,
        "val_accuracy": finite[kept - 1]["val_accuracy"] if kept else None,
        "val_loss": finite[kept - 1]["val_loss"] if kept else None,
        "seconds": sum(line["seconds"] for line in lines),
        **{key: statistics.median(line[key] for line in lines) for key in RATES if lines and key in lines[0]},
    }


def summary_of(spec: RunSpec, lines: Lines, parameters: int) -> dict[str, Any]:
    """Return the summary of a run that has ended: its status, finished or diverged, and the results of `standing`."""
    status = "diverged" if diverged(lines) else "finished"
    return {"status": status, "parameters": parameters, **standing(PROTOCOLS[spec.protocol], lines)}
