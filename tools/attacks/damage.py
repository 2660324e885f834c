"""Damage files: flip bits, and change values of JSON; then let commands read them."""

import io
import json
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from tools.attacks.mutations import mutated
from tools.attacks.outcome import Answer, Outcome, judged, run_paths


def here(*arguments: object) -> Answer:
    """Run a command in this process, which takes milliseconds where a new process would take seconds."""
    from fastcifar.cli import app

    out, err = io.StringIO(), io.StringIO()
    code = 0
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", ["fastcifar", *map(str, arguments)]):
        try:
            app.main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException as error:  # whatever comes out of a command is a traceback
            return Answer(1, out.getvalue(), f"{err.getvalue()}\nTraceback (most recent call last): {error!r}")
    return Answer(code, out.getvalue(), err.getvalue())


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one bit flipped."""
    bit = rng.randrange(8 * len(content))
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


def datasets(dataset: Path, runs: Path, folder: Path, tries: int, seed: str) -> Iterator[Outcome]:
    """Yield the outcomes of flipped bits and of changed manifests in a dataset directory that has every format."""
    rng, copy = random.Random(f"{seed} datasets"), folder / "dataset"
    shutil.copytree(dataset, copy)
    run = run_paths(runs)[0]
    readers = {
        "verify": ("verify", copy),
        "train": ("train", "--exp", 2, "--data", copy, "--out", folder / "out", "--epochs", 1, "--device", "cpu"),
        "grid": ("grid", "--exp", 2, "--data", copy, "--out", folder / "out", "--dry-run", "--device", "cpu"),
        "predict": ("predict", run, "--data", copy, "--split", "val", "--device", "cpu"),
        "report": ("report", "--runs", runs, "--data", copy, "--out", folder / "report"),
        "preview": ("preview", "--data", copy, "--out", folder / "preview.png"),
    }
    for file in sorted(path for path in copy.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for number in range(tries):
            changes_values = file.name == "manifest.json" and number % 2
            file.write_bytes(mutated(whole, rng, False) if changes_values else flipped(whole, rng))
            reader = rng.choice(list(readers))
            what = f"{file.relative_to(copy)}, {'value changed' if changes_values else 'bit flipped'}, {reader}"
            same = _same_json(whole, file.read_bytes())
            kind = "changed manifest" if changes_values else "flipped bit: dataset"
            yield judged(kind, what, here(*readers[reader]), same, [file.name, copy.name])
        file.write_bytes(whole)


def runs_of(dataset: Path, runs: Path, folder: Path, tries: int, seed: str) -> Iterator[Outcome]:
    """Yield the outcomes of flipped bits and changed values in the files of a finished run."""
    rng, copy = random.Random(f"{seed} runs"), folder / "runs"
    shutil.copytree(runs, copy)
    run = run_paths(copy)[0]
    train = json.loads((run / "run.json").read_bytes())["spec"]
    readers = {
        "runs": ("runs", "--out", copy, "--json"),
        "diff": ("runs", "--out", copy, "--diff", *(path.name for path in run_paths(copy)[:2])),
        "predict": ("predict", run, "--data", dataset, "--split", "val", "--device", "cpu"),
        "report": ("report", "--runs", copy, "--out", folder / "report", "--json"),
        "train": ("train", "--exp", train["experiment"], "--epochs", train["epochs"], "--seeds", train["seed"], "--set",
                  f"batch_size={train['batch_size']}", "--data", dataset, "--out", copy, "--device", "cpu", "--amp",
                  "off", "--json"),
    }  # fmt: skip
    undisturbed = {name: here(*arguments).out for name, arguments in readers.items()}
    for file in sorted(path for path in run.iterdir() if path.is_file() and path.stat().st_size):
        whole = file.read_bytes()
        for number in range(tries):
            of_json = file.suffix in (".json", ".jsonl") and number % 2
            file.write_bytes(mutated(whole, rng, file.suffix == ".jsonl") if of_json else flipped(whole, rng))
            reader = rng.choice(list(readers))
            answer = here(*readers[reader])
            unused = file.stem in ("model", "predictions", "test-predictions") and reader not in ("predict", "report")
            # `runs` and the report go on with the other runs, and name the damaged one
            named = run.name in answer.err or run.name in answer.out
            same = unused or answer.out == undisturbed[reader] or (reader in ("runs", "report") and named)
            kind = "changed value: run" if of_json else "flipped bit: run"
            what = f"{file.name}, {'value changed' if of_json else 'bit flipped'}, {reader}"
            yield judged(kind, what, answer, same, [run.name])
        file.write_bytes(whole)


def _same_json(before: bytes, after: bytes) -> bool:
    try:
        return bool(json.loads(before) == json.loads(after))
    except (ValueError, RecursionError):
        return False
