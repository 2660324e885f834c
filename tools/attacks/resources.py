"""Take resources from commands: the disk, memory, open files, the output's encoding, and the reader of the output."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.attacks.kills import TRAINED
from tools.attacks.outcome import Answer, Outcome, command, environment, judged, metrics_of, run, run_paths


def _limit(kind: int, amount: int) -> Callable[[], None]:
    def set_it() -> None:
        resource.setrlimit(kind, (amount, amount))

    return set_it


def attack(dataset: Path, runs: Path, folder: Path) -> Iterator[Outcome]:
    """Yield the outcomes of every command under every shortage. After a training that failed, the run must go on."""
    train = ("train", *TRAINED, "--compile", "none", "--data", dataset)
    path = run_paths(runs)[0]
    commands: dict[str, Callable[[Path], tuple[object, ...]]] = {
        "convert": lambda f: ("convert", "digits", f / "dataset"),
        "train": lambda f: (*train, "--out", f / "runs"),
        "predict": lambda f: ("predict", path, "--data", dataset, "--split", "val", "--out", f / "predicted.csv"),
        "report": lambda f: ("report", "--runs", runs, "--out", f / "report"),
        "runs": lambda f: ("runs", "--out", runs),
    }
    shortages: dict[str, dict[str, Any]] = {
        "files of at most 100 kB": {"preexec_fn": _limit(resource.RLIMIT_FSIZE, 100_000)},
        "files of at most 2 kB": {"preexec_fn": _limit(resource.RLIMIT_FSIZE, 2_000)},
        "4 GB of addresses": {"preexec_fn": _limit(resource.RLIMIT_AS, 4 << 30)},
        "80 open files": {"preexec_fn": _limit(resource.RLIMIT_NOFILE, 80)},
        "an output in ASCII": {"env": environment(PYTHONIOENCODING="ascii", LC_ALL="C")},
        "an output in Latin-1": {"env": environment(PYTHONIOENCODING="latin-1")},
        "no home": {"env": environment(HOME=str(folder / "nowhere"))},
        "the time zone of nobody": {"env": environment(TZ="Nowhere/Nothing")},
    }
    undisturbed = folder / "undisturbed"
    run(*train, "--out", undisturbed)
    wanted = metrics_of(undisturbed)
    for short, options in shortages.items():
        for name, arguments in commands.items():
            place = folder / "place"
            place.mkdir()
            what = f"{name}, {short}"
            answer = run(*arguments(place), **options)
            yield judged(f"shortage: {short}", what, answer, True, [])
            if name == "train":
                again = run(*arguments(place))
                same = metrics_of(place / "runs") == wanted
                yield judged(f"shortage: {short}", f"{what}, then without it", again, same, [str(place)])
            shutil.rmtree(place)
    yield from closed_outputs(runs)


def closed_outputs(runs: Path) -> Iterator[Outcome]:
    """Yield the outcomes of a command whose standard output nobody reads any more."""
    for number in range(5):
        reader, writer = os.pipe()
        process = subprocess.Popen(
            command("runs", "--out", runs, "--json"), stdout=writer, stderr=subprocess.PIPE, text=True,
            env=environment(),
        )  # fmt: skip
        os.close(writer)
        os.close(reader)
        _, err = process.communicate(timeout=120)
        quiet = Answer(process.returncode, "", err)
        result = "traceback" if quiet.traceback or err.strip() else "survived"
        yield Outcome(
            "shortage: a closed output", result, f"try {number}: exit status {process.returncode}, {err[:200]}"
        )
