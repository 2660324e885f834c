"""The messages between a grid and its workers: plain data that can be pickled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastcifar.runs.spec import RunSpec


@dataclass(frozen=True)
class Job:
    """A pack to train. weights: the value of --weights, for networks that start from pre-trained weights."""

    number: int
    specs: tuple[RunSpec, ...]
    most: int
    """The largest number of runs in a pack of this shape."""
    weights: str | None = None


class Ready(NamedTuple):
    """A worker is ready for jobs. device: a readable name of its device."""

    device: str


class Began(NamedTuple):
    """The training of a job has begun. way: one of packs.names.WAYS. run_id: one of its runs."""

    job: int
    way: str
    run_id: str


class Epoch(NamedTuple):
    """A run's epoch is on the disk. line: its line of metrics.jsonl. new: False for an epoch of an earlier session."""

    job: int
    run_id: str
    line: Mapping[str, Any]
    new: bool


class Within(NamedTuple):
    """A report from within an epoch of a job. text: for people."""

    job: int
    text: str


class Ended(NamedTuple):
    """A run has ended: it has either a summary or an error, and the other one is None."""

    job: int
    run_id: str
    summary: Mapping[str, Any] | None
    error: str | None


class SentFiles(NamedTuple):
    """Changed files of a run's directory by name, from a worker without access to the output folder."""

    run_id: str
    experiment: int
    contents: Mapping[str, bytes]


class Said(NamedTuple):
    """A message for the user."""

    text: str


class Done(NamedTuple):
    """A job is over; its worker is ready for the next job."""

    job: int


class Lost(NamedTuple):
    """A worker has died, and its job with it."""

    reason: str


Event = Ready | Began | Epoch | Within | Ended | SentFiles | Said | Done | Lost
