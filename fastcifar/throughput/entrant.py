"""A contestant as the contest sees it: its process, the turns it took, what went wrong, and its row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from fastcifar.augment import RECIPES
from fastcifar.system.measure import environment
from fastcifar.throughput import rows
from fastcifar.throughput.contestant import REPLAY, Contestant
from fastcifar.throughput.process import ContestantFailed, Process
from fastcifar.throughput.verify import Verification, as_row

WARM_UP = 2  # turns: until all the memory a pipeline uses again and again was used once, which can take the first
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Rules:
    """How a contest is held."""

    repeats: int = 5
    """timed turns of each contestant"""
    seconds: float = 3.0
    """the least that a turn takes"""
    timeout: float = 300.0
    """seconds for opening a pipeline, and for each turn"""
    unverified: bool = False
    """also time what could not be verified"""
    write_bandwidth: Mapping[str, float] = field(default_factory=dict)
    """of each device: bytes/s that its memory takes"""
    environment: Mapping[str, Any] = field(default_factory=environment)
    """for the row of a contestant that never told its own"""


class Entrant:
    """One contestant in a contest."""

    def __init__(self, contestant: Contestant, rules: Rules) -> None:
        self.contestant, self.rules = contestant, rules
        self.reason: str | None = None
        """why it is out"""
        self.turns: list[dict[str, Any]] = []
        """answers of Racer.turn, those that are timed"""
        self._check = Verification()
        self._opening: dict[str, Any] = {}
        self._start: float | None = None
        self._process: Process | None = None
        self._picks = 0

    def enter(self) -> None:
        """Start the process, open the pipeline, take turns that do not count. What goes wrong is the reason."""
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
        """Take a turn that counts, having entered if need be."""
        self.enter()
        turn = self._turn() if self.reason is None else None
        if turn is not None:
            self.turns.append(turn)

    def leave(self) -> None:
        """End the process. May be called again."""
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
        if self._unverified() and not self.rules.unverified:
            self.reason = self._unverified()
            self.leave()
        return turn

    def _unverified(self) -> str | None:
        return self._check.why_not(self._opening["differs"])

    def row(self, replayed: "Entrant | None" = None) -> dict[str, Any]:
        """The row of what is known so far; None for what is not. replayed: that of the same network on a replay."""
        who, turns = self.contestant, self.turns
        failed = self.reason or (self._unverified() if self._opening and turns else None)
        row: dict[str, Any] = {
            "bench": "throughput" if who.model is None else "feeding",
            **{key: getattr(who, key) for key in ("model", "recipe", "device", "dtype", "batch_size", "threads")},
            "pipeline": who.pipeline,
            "images": self._opening.get("images"),
            **dict.fromkeys(MEASURED),
            **as_row(self._check, self._opening.get("differs", ""), failed),
            "build_seconds": self._opening.get("build_seconds"),
            "first_batch_seconds": self._start,
            "environment": self._opening.get("environment", self.rules.environment),
        }
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
            image_bytes = 3 * RECIPES[who.recipe].out_size ** 2 * DTYPE_BYTES[who.dtype]
            row |= {
                "write_bandwidth": bandwidth,
                "ceiling_images_per_s": bandwidth / image_bytes,
                "ceiling_share": row["images_per_s"] * image_bytes / bandwidth,
            }
        return row


MEASURED = (
    *("images_per_s", "images_per_s_min", "images_per_s_max", "repeats", "turns"),
    *("gap_p50_seconds", "gap_p95_seconds", "gap_p99_seconds", "epoch_start_seconds"),
    *("cpu_seconds_per_million", "cores_busy", "cores_idle", "waited", "stall"),
    *("peak_host_bytes", "peak_gpu_bytes", "write_bandwidth", "ceiling_images_per_s", "ceiling_share"),
)
"""what is None in the row of a contestant that was not timed"""


def _stall(turns: list[dict[str, Any]], replayed: list[dict[str, Any]]) -> float:
    """The share of time that training on replayed batches does not need: the median over rounds."""
    pairs = zip(turns, replayed, strict=False)
    return median(1 - (mine["images"] / mine["seconds"]) / (best["images"] / best["seconds"]) for mine, best in pairs)


def replay_of(entrants: list[Entrant]) -> Entrant | None:
    """The entrant that replays, where there is one."""
    return next((entrant for entrant in entrants if entrant.contestant.pipeline == REPLAY), None)
