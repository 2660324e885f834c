"""The checks of ``fastcifar doctor``: what this machine can run, and the cure for each part that is missing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from fastcifar.system import machine
from fastcifar.system.doctor import leftovers, libraries, surroundings
from fastcifar.system.doctor.finding import Finding as Finding

CHECKS: tuple[Callable[[], Finding], ...] = (
    surroundings.python,
    libraries.torch,
    libraries.torchvision,
    libraries.numba,
    libraries.others,
    libraries.cuda,
    surroundings.bfloat16,
    surroundings.numba_cache,
    libraries.triton,
    libraries.ffcv,
    libraries.dali,
    libraries.py7zr,
    libraries.ray,
    libraries.tensorboard,
    surroundings.compiler,
    surroundings.disk,
    leftovers.leftovers,
    surroundings.memory,
    surroundings.terminal,
)


def diagnose() -> list[Finding]:
    """Run every check once. It takes seconds, about as long as importing torch and FFCV, and changes nothing."""
    quietness = surroundings.quietness()  # first, as the other checks make the machine busy
    with ThreadPoolExecutor(machine.usable_cores()) as pool:
        return [*pool.map(lambda check: check(), CHECKS), quietness]


def doctor_rows(findings: list[Finding]) -> list[dict[str, Any]]:
    """Return the findings as dicts for JSON: name, ok, detail, cure, required."""
    return [asdict(finding) for finding in findings]
