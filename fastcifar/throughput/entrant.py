"""A contestant within a contest: its process, its turns, its failure and its row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from fastcifar.recipes import recipe
from fastcifar.system.load import Load, measure
from fastcifar.system.measure import environment
from fastcifar.throughput import rows
from fastcifar.throughput.contestant import REPLAY, Contestant
from fastcifar.throughput.process import ContestantFailed, Process
from fastcifar.throughput.verify import Verification, as_row

WARM_UP = 2  # turns; within them, a pipeline touches all memory that it reuses
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Rules:
    """The rules of a contest."""

    repeats: int = 5
    """The number of timed turns of each contestant."""
    seconds: float = 3.0
    """The least duration of a turn, in seconds."""
    timeout: float = 300.0
    """The time limit in seconds for opening a pipeline, and for each turn."""
    unverified: bool = False
    """Whether to time contestants whose batches are not verified, too."""
    write_bandwidth: Mapping[str, float] = field(default_factory=dict)
    """The write bandwidth of each device's memory, in bytes/s."""
    environment: Mapping[str, Any] = field(default_factory=environment)
    """The environment for the row of a contestant that failed before it sent its own."""
    load_seconds: float = 0.2
    """The seconds before each timed turn in which the load by other programs is measured while nothing of ours runs."""


class Entrant:
    """One contestant in a contest."""

    def __init__(self, contestant: Contestant, rules: Rules) -> None:
        self.contestant, self.rules = contestant, rules
        self.reason: str | None = None
        """The reason why this contestant has left the contest; None while it takes part."""
        self.turns: list[dict[str, Any]] = []
        """The answers of Racer.turn for the timed turns."""
        self._loads: list[Load] = []
        self._check = Verification()
        self._opening: dict[str, Any] = {}
        self._start: float | None = None
        self._process: Process | None = None
        self._picks = 0

    def enter(self) -> None:
        """Start the process, open the pipeline and take WARM_UP turns that do not count. A failure sets ``reason``."""
        if self.reason is not None or self._process is not None:
            return
        try:
            self._process = Process(self.contestant, self.rules.timeout)
        except ContestantFailed as error:
            self.reason = str(error)
            return
        self._opening = self._opening or self._process.opening
        for _ in range(WARM_UP):
            warm = self._turn() if self.reason is None else None
            if warm is not None:
                self._start = self._start or warm["start_seconds"]

    def race(self) -> None:
        """Take a turn that counts; enter first if there is no process. A failure sets ``reason``."""
        self.enter()
        if self.reason is not None:
            return
        self._loads.append(measure(self.rules.load_seconds))
        turn = self._turn()
        if turn is not None:
            self.turns.append(turn)

    def leave(self) -> None:
        """End the process. Further calls do nothing."""
        if self._process is not None:
            self._process.close()
        self._process = None

    def _turn(self) -> dict[str, Any] | None:
        assert self._process is not None
        self._picks += 1
        try:
            turn = self._process.ask({"seconds": self.rules.seconds, "pick": self._picks})
        except ContestantFailed as error:
            self._process, self.reason = None, str(error)
            return None
        self._check.add(Verification(**turn["check"]))
        if self._unverified() and not (self.rules.unverified or self.contestant.own):
            self.reason = self._unverified()
            self.leave()
        return turn

    def _unverified(self) -> str | None:
        return self._check.why_not(self._opening["differs"])

    def row(self, replayed: "Entrant | None" = None) -> dict[str, Any]:
        """Return the row so far, with None for unknown values.

        replayed: the entrant with the same network on replayed batches, for the key "stall".
        """
        who, turns = self.contestant, self.turns
        failed = self.reason or (self._unverified() if self._opening and turns else None)
        row: dict[str, Any] = {
            "bench": "throughput" if who.model is None else "feeding",
            **{key: getattr(who, key) for key in ("model", "recipe", "device", "dtype", "batch_size", "threads")},
            "pipeline": who.pipeline,
            "own": who.own,
            "images": self._opening.get("images"),
            "dataset": self._opening.get("dataset"),
            "turn_seconds": self.rules.seconds,
            **dict.fromkeys(MEASURED),
            **as_row(self._check, self._opening.get("differs", ""), failed),
            "build_seconds": self._opening.get("build_seconds"),
            "first_batch_seconds": self._start,
            "environment": self._opening.get("environment", self.rules.environment),
        }
        if self._opening.get("hindered"):
            row["hindered"] = self._opening["hindered"]
        if turns and self.reason is None:
            row |= self._measured()
            if replayed not in (None, self) and replayed.turns:
                row["stall"] = _stall(turns, replayed.turns)
        return row

    def _measured(self) -> dict[str, Any]:
        who, turns = self.contestant, self.turns
        speeds = [turn["images"] / turn["seconds"] for turn in turns]
        images, seconds, cpu, idle_cpu, idle = (
            sum(turn[key] for turn in turns)
            for key in ("images", "seconds", "cpu_seconds", "idle_cpu_seconds", "idle_seconds")
        )
        gaps = [gap for turn in turns for gap in turn["gaps"]]
        row = {
            **rows.rates(speeds),
            "turns": speeds,
            "load": {
                key: _median(getattr(load, key) for load in self._loads) for key in ("busy_cores", "load_average")
            },
            **{f"gap_p{p}_seconds": float(np.percentile(gaps, p)) if gaps else None for p in (50, 95, 99)},
            "epoch_start_seconds": median(turn["start_seconds"] for turn in turns),
            "cpu_seconds_per_million": 1e6 * cpu / images,
            "cores_busy": cpu / seconds,
            "cores_idle": idle_cpu / idle,
            "waited": median(turn["waited"] for turn in turns),
            "peak_host_bytes": max(turn["peak_host_bytes"] for turn in turns),
            "peak_gpu_bytes": max((turn["peak_gpu_bytes"] for turn in turns if turn["peak_gpu_bytes"]), default=None),
        }
        bandwidth = self.rules.write_bandwidth.get(who.device)
        if bandwidth and who.model is None:
            image_bytes = 3 * recipe(who.recipe).out_size ** 2 * DTYPE_BYTES[who.dtype]
            row |= {
                "write_bandwidth": bandwidth,
                "ceiling_images_per_s": bandwidth / image_bytes,
                "ceiling_share": row["images_per_s"] * image_bytes / bandwidth,
            }
        return row


MEASURED = (
    *("images_per_s", "images_per_s_min", "images_per_s_max", "repeats", "turns", "load"),
    *("gap_p50_seconds", "gap_p95_seconds", "gap_p99_seconds", "epoch_start_seconds"),
    *("cpu_seconds_per_million", "cores_busy", "cores_idle", "waited", "stall"),
    *("peak_host_bytes", "peak_gpu_bytes", "write_bandwidth", "ceiling_images_per_s", "ceiling_share"),
)
"""The keys whose values are None in the row of a contestant that was not timed."""


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _stall(turns: list[dict[str, Any]], replayed: list[dict[str, Any]]) -> float:
    """Return the share of time that training on replayed batches would save: the median over rounds."""
    pairs = zip(turns, replayed, strict=False)
    return median(1 - (mine["images"] / mine["seconds"]) / (best["images"] / best["seconds"]) for mine, best in pairs)


def replay_of(entrants: list[Entrant]) -> Entrant | None:
    """Return the entrant with replayed batches, or None where there is none."""
    return next((entrant for entrant in entrants if entrant.contestant.pipeline == REPLAY), None)
