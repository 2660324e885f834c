"""Seal runs that were written before version 0.3, without seals, as far as their files agree."""

import json
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.record import read_runs
from fastcifar.system.atomic import neighbour, put_in_place
from fastcifar.system.seals import sealed

if TYPE_CHECKING:
    from fastcifar.runs.record import RunRecord

WRITTEN = ("run.json", "metrics.jsonl", "summary.json", "lock")
TENSORS = ("model", "predictions", "test-predictions")


def seal_runs(out: Path) -> tuple[list[str], list[str]]:
    """Seal the finished runs below ``out`` that have no seals, and mark each as sealed later, with the date.

    Returns the ids of the sealed runs, and a sentence for each run that stays as it is although it has no seals. What
    was changed before the sealing cannot be seen; files that contradict each other are not sealed. Raises UsageError
    where ``out`` is no folder.
    """
    found = read_runs(out)
    done, left = [], [*found.damaged.values(), *found.foreign.values()]
    for record in found.records:
        if record.checked != "no":
            continue
        try:
            if record.summary is None:
                raise UsageError(f"{record.path} is {record.status}; only finished runs are sealed")
            with record.directory.locked():
                _seal(record)
            done.append(record.run_id)
        except FastcifarError as error:
            left.append(str(error))
    return done, left


def _seal(record: "RunRecord") -> None:
    """Write the run's files with seals to a neighbour of its directory, which then takes its place."""
    import torch

    old, lines = RunDirectory(record.path.resolve()), record.lines  # a link stays one
    assert record.summary is not None
    kept = record.summary.get("kept_epoch")
    with neighbour(old.path) as folder:
        new = RunDirectory(folder / record.run_id)
        new.path.mkdir()
        begun = sealed({**record.begun, "sealed_later": date.today().isoformat()})
        new.write("run.json", json.dumps(begun, indent=1).encode())
        seals = [new.append_metrics(line) for line in lines]
        written = {*WRITTEN, *(f"{name}.safetensors" for name in TENSORS)}
        for name in TENSORS:
            saved = old.load_tensors(name, torch.device("cpu"))
            if saved is None:
                continue
            tensors, note = saved
            if note["epoch"] != kept:
                raise old.damaged(f"{name}.safetensors", f"it is of epoch {note['epoch']}, and epoch {kept} was kept")
            new.save_tensors(name, tensors, {**note, "line": seals[note["epoch"] - 1]})
        for file in old.files():
            if file.name not in written:
                shutil.copy2(file, new.path / file.name)
        new.finish(record.summary)
        put_in_place(new.path, old.path, overwrite=True)
