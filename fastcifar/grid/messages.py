"""What is said between a grid and its workers: plain data, that pickles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastcifar.runs.spec import RunSpec


@dataclass(frozen=True)
class Job:
    """A pack to train. weights: as --weights gives it, for networks that begin with some."""

    number: int
    specs: tuple[RunSpec, ...]
    most: int
    """runs of a pack of its shape"""
    weights: str | None = None


class Ready(NamedTuple):
    """A worker takes jobs. device: what it is, for people."""

    device: str


class Began(NamedTuple):
    """A job is being trained, in a way of packs.ways.WAYS."""

    job: int
    way: str


class Epoch(NamedTuple):
    """A run's epoch is on the disk, or was from an earlier session."""

    job: int
    run_id: str
    line: Mapping[str, Any]
    new: bool


class Ended(NamedTuple):
    """A run has a summary, or an error."""

    job: int
    run_id: str
    summary: Mapping[str, Any] | None
    error: str | None


class Files(NamedTuple):
    """A run's directory, from a worker that does not see the output folder."""

    run_id: str
    experiment: int
    contents: Mapping[str, bytes]


class Said(NamedTuple):
    """Something that people should know."""

    text: str


class Done(NamedTuple):
    """A job is over; its worker takes another."""

    job: int


class Lost(NamedTuple):
    """A worker is gone, with whatever it was doing."""

    reason: str


Event = Ready | Began | Epoch | Ended | Files | Said | Done | Lost
