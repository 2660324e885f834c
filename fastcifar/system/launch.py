"""How this process was started: the text of --device and torchrun's variables, read without torch."""

import os
import re

from fastcifar.errors import UsageError

NAMES = "auto, cpu, cuda, cuda:N"
_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")


def check_device(name: str) -> None:
    """Raise UsageError for a text that names no device. Whether the machine has the device is not checked."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"device {name!r} is not one of {NAMES}; choose one of them")


def processes() -> int:
    """Return the number of processes that torchrun started for this training; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Return whether this process has rank 0: only that one writes files and prints."""
    return os.environ.get("RANK", "0") == "0"
