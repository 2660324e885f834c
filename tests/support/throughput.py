"""Contestants, short heats, and rows like those of the throughput benchmark."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.throughput import heat, rows
from fastcifar.throughput.contestant import Contestant
from fastcifar.throughput.entrant import Rules

KEYS = {
    *("bench", "pipeline", "model", "recipe", "device", "dtype", "batch_size", "threads", "images"),
    *("own", "dataset", "turn_seconds", "load"),
    *("images_per_s", "images_per_s_min", "images_per_s_max", "repeats", "turns", "stall", "waited"),
    *("gap_p50_seconds", "gap_p95_seconds", "gap_p99_seconds"),
    *("build_seconds", "first_batch_seconds", "epoch_start_seconds"),
    *("cpu_seconds_per_million", "cores_busy", "cores_idle", "peak_host_bytes", "peak_gpu_bytes"),
    *("verified", "reason", "images_checked", "max_abs_dev", "pixels_apart", "differs"),
    *("write_bandwidth", "ceiling_images_per_s", "ceiling_share", "environment"),
}


def contestant(dataset: Dataset, pipeline: str, **other: Any) -> Contestant:
    fields = {"recipe": "erasing", "batch_size": 16, "device": "cpu", "dtype": "float32", "threads": 1, **other}
    return Contestant(pipeline=pipeline, data=str(dataset.path), **fields)


def held(dataset: Dataset, *pipelines: str, repeats: int = 1, **other: Any) -> dict[str, dict[str, Any]]:
    """Return the rows of a short heat by pipeline."""
    limits = {"seconds": 0.05, "timeout": 60.0, "write_bandwidth": {"cpu": 1e10}, "load_seconds": 0.02}
    limits |= {"unverified": False}
    rules = Rules(repeats=repeats, **{key: other.pop(key, value) for key, value in limits.items()})
    return {row["pipeline"]: row for row in heat.hold([contestant(dataset, p, **other) for p in pipelines], rules)}


def gone(session: int) -> bool:
    """Return whether every process of the session ends within 5 s. Killed processes need a moment."""
    until = time.monotonic() + 5
    while running(session) and time.monotonic() < until:
        time.sleep(0.05)
    return not running(session)


def running(session: int) -> list[str]:
    """Return the ids of the session's processes, without zombies that their parent has not yet waited for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, _, of, *_ = stat.read_text().rpartition(")")[2].split()
            found += [stat.parent.name] if of == str(session) and state != "Z" else []
    return found


def made(pipeline: str, speeds: list[float], **other: Any) -> dict[str, Any]:
    """Return a row like those of the benchmark."""
    around = {"cpu": "c", "cores": 2, "python": "3", "commit": "abc", "dirty": False, "versions": dict.fromkeys(
        ("torch", "torchvision", "numba", "ffcv", "dali"), "1")}  # fmt: skip
    return {
        **dict.fromkeys(KEYS), "bench": "throughput", "pipeline": pipeline, "recipe": "none", "device": "cpu",
        "own": ":make" in pipeline,
        "dtype": "float32", "batch_size": 512, "threads": 2, **rows.rates(speeds), "turns": speeds, "verified": True,
        "max_abs_dev": 0.0, "pixels_apart": 0.0, "ceiling_images_per_s": 1e6, "ceiling_share": 0.1,
        "cpu_seconds_per_million": 1.0, "peak_host_bytes": 1e9, "gap_p99_seconds": 0.01, "build_seconds": 1.5,
        "first_batch_seconds": 0.5, "load": {"busy_cores": 0.0, "load_average": 0.1}, "environment": around, **other,
    }  # fmt: skip


OUT = {"images_per_s": None, "turns": None, "verified": False, "reason": "did not open in 300 s"}
