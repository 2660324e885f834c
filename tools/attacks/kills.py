"""Kill commands at random moments, look at what they left, and run them again."""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.attacks.outcome import Outcome, command, environment, metrics_of, run, run_paths

TRAINED = ("--exp", 2, "--epochs", 3, "--seeds", "0,1", "--set", "batch_size=64", "--device", "cpu", "--amp", "off")
LIMIT = 300.0  # seconds that a command may take


@dataclass(frozen=True)
class Target:
    """A command that is killed."""

    name: str
    prepare: Callable[[Path], None]
    """Put what the command needs into an empty folder."""
    arguments: Callable[[Path], tuple[object, ...]]
    """The command's arguments for that folder."""
    result: Callable[[Path], Any]
    """Read the result from the folder."""


def targets(dataset: Path, runs: Path) -> list[Target]:
    """Return the commands. dataset: a dataset directory. runs: a folder of finished runs on that dataset."""

    def nothing(_: Path) -> None:
        pass

    def with_runs(folder: Path) -> None:
        shutil.copytree(runs, folder / "runs")

    def verified(folder: Path) -> str:
        from fastcifar.data.dataset import verify

        return verify(folder / "dataset").sha256

    grid = ("--exp", 2, "--only", "recipe=basic", "--only", "batch_size=64", "--only", "l2=0", "--seeds", "0")
    return [
        Target("convert", nothing, lambda f: ("convert", "digits", f / "dataset", "--overwrite"), verified),
        Target("train", nothing, lambda f: ("train", *TRAINED, "--compile", "none", "--data", dataset, "--out",
                                            f / "runs"), lambda f: metrics_of(f / "runs")),
        Target("grid", nothing, lambda f: ("grid", *grid, "--way", "serial", "--epochs", 2, "--device", "cpu", "--amp",
                                           "off", "--data", dataset, "--out", f / "runs"),
               lambda f: metrics_of(f / "runs")),
        Target("predict", with_runs, lambda f: ("predict", *run_paths(f / "runs"), "--data", dataset, "--split", "val",
                                                "--out", f / "predicted.csv"),
               lambda f: (f / "predicted.csv").read_bytes()),
        Target("report", with_runs, lambda f: ("report", "--runs", f / "runs", "--data", dataset, "--out",
                                               f / "report"), _report),
    ]  # fmt: skip


def _report(folder: Path) -> Any:
    names = sorted(path.name for path in (folder / "report").iterdir())
    return names, (folder / "report" / "report.md").read_text(encoding="utf-8")


def attack(target: Target, folder: Path, tries: int, seed: str) -> Iterator[Outcome]:
    """Yield the outcomes of ``tries`` kills at random moments. folder: an empty folder to work in."""
    rng, whole = random.Random(f"{seed} {target.name}"), folder / "undisturbed"
    whole.mkdir()
    target.prepare(whole)
    started = time.monotonic()
    first = run(*target.arguments(whole), timeout=LIMIT)
    seconds = time.monotonic() - started
    if first.code:
        raise RuntimeError(f"{target.name} does not even work undisturbed: {first.err[-2000:]}")
    wanted = json.dumps(target.result(whole), default=str).replace(str(whole), "")
    for number in range(tries):
        place = folder / str(number)
        place.mkdir()
        target.prepare(place)
        yield _once(target, place, rng.uniform(0, 1.05 * seconds), wanted)
        shutil.rmtree(place)


def _once(target: Target, place: Path, after: float, wanted: str) -> Outcome:
    kind, shared = f"kill: {target.name}", _shared()
    process = subprocess.Popen(
        command(*target.arguments(place)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True, env=environment(),
    )  # fmt: skip
    with suppress(subprocess.TimeoutExpired):
        process.wait(after)
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)  # the command alone: its workers must notice
    process.wait()
    what = f"after {after:.2f} s"
    if orphans := _still_there(process.pid):
        return Outcome(kind, "left", f"{what}: processes {orphans} go on")
    if target.name in ("train", "grid"):
        shown = run("runs", "--out", place / "runs", "--json")
        if shown.traceback:
            return Outcome(kind, "traceback", f"{what}: runs: {shown.said}")
    again = run(*target.arguments(place), timeout=LIMIT)
    if again.traceback or again.code:
        return Outcome(kind, "traceback" if again.traceback else "lost", f"{what}: {again.said}")
    result = json.dumps(target.result(place), default=str).replace(str(place), "")
    if result != wanted:
        return Outcome(kind, "silent", f"{what}: the result is another one")
    hidden = [path.name for path in place.rglob(".*") if path.name.endswith((".partial", ".tmp", ".old"))]
    if hidden or _shared() - shared:
        return Outcome(kind, "left", f"{what}: {hidden or _shared() - shared}")
    return Outcome(kind, "survived", what)


def _shared() -> set[str]:
    """Return the names of what processes that are gone left in shared memory and among the temporary files."""
    from fastcifar.system.temporary import SHARED, left_in

    return {left.path.name for left in left_in([SHARED, Path(tempfile.gettempdir())])}


def _still_there(session: int, grace: float = 20.0) -> list[int]:
    """Return the processes of a session that still run after ``grace`` seconds, and kill them."""
    until = time.monotonic() + grace
    while (alive := _of_session(session)) and time.monotonic() < until:
        time.sleep(0.2)
    for each in alive:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    return alive


def _of_session(session: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if fields[3] == str(session) and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found
