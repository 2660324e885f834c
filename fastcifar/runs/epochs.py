"""Whether an earlier run differs from a new one in its number of epochs only."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from fastcifar.errors import FastcifarError
from fastcifar.runs.directory import alike
from fastcifar.runs.spec import RunSpec, spec_values
from fastcifar.show.text import counted


def trained_anew(specs: Iterable[RunSpec], out: Path) -> list[str]:
    """Return a sentence for each configuration of new runs that was trained with other epochs before.

    The number of epochs is part of a run, and a finished run keeps no state of the optimizer, so it cannot go on. An
    unfinished one goes on under its own number.
    """
    found: dict[str, str] = {}
    for spec in specs:
        if spec.label not in found and (earlier := _earlier(spec, out)):
            found[spec.label] = earlier
    return list(found.values())


def _earlier(spec: RunSpec, out: Path) -> str | None:
    """Return the sentence about the earlier run with the most epochs; None where there is none, or a run to resume."""
    runs = []
    for directory in alike(spec, out):
        with suppress(FastcifarError, OSError):  # a damaged run is not this command's concern
            begun = directory.begun()
            stated = spec_values(begun["spec"]) if begun else {}
            if {**stated, "epochs": spec.epochs} == asdict(spec):
                finished = directory.summary() is not None
                runs.append((stated["epochs"], len(directory.metrics()), finished, directory.path.name))
    if not runs:
        return None
    limit, epochs, finished, name = max(runs)
    if finished:
        rest = f"finished after {counted(epochs, 'epoch')} and kept nothing to go on from"
    else:
        rest = f"stopped after {epochs} of {counted(limit, 'epoch')} and goes on with --epochs {limit}"
    return f"{counted(spec.epochs, 'epoch')} make another run than {name}, which {rest}; training begins at epoch 1"
