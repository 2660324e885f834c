"""Try every classification network of torchvision: train, interrupt, continue and predict, and write a row for each.

    python tools/networks.py                     # those without a row; stop it at any time, the same command goes on
    python tools/networks.py resnet18 vit_b_16   # these, whether they have a row or not
    python bench/readme.py                       # then writes the table of docs/networks.md

A network gets random weights from a file, as published ones come, and five random images at the size that its weights
declare. It trains for an epoch of one or two steps, and is stopped. A second call restores it and trains another epoch,
and its kept weights must then predict with the loss that the training measured. Of networks with more than 100 million
parameters the last layer alone is trained, and those with more than 200 million are tried only where they are named.
Each network is tried in a process of its own, whatever becomes of those before it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from math import isclose, log
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ONE = "--one"
ROWS = ROOT / "bench" / "results" / "networks-cpu.jsonl"
LARGE = 100_000_000  # parameters; of larger networks the last layer alone is trained
LARGEST = 200_000_000  # parameters; larger networks take more memory than a small machine has
IMAGES = 5  # four to train on, and one to validate with
WIDE = 400  # pixels; the four images of networks with a larger side are two batches, which take half the memory
FLOOR = 1e-37  # the least probability that is told from 0: about the smallest normal number of float32


class Stopped(Exception):
    """The interruption of a run after its first epoch."""


class Attempt:
    """The ways of one network, each a method; ``stage`` is the name of the one that began last."""

    def __init__(self, name: str, folder: Path) -> None:
        from fastcifar.models.pretrained import preprocessing
        from fastcifar.recipes import recipe

        self.name, self.folder, self.stage = name, folder, "build"
        made, self.parameters = preprocessing(name), parameters_of(name)
        self.tune = "full" if self.parameters <= LARGE else "head"
        self.side = made.enlarge[1] if made.enlarge else recipe(made.recipe).out_size
        self.enlarge = made.enlarge

    def row(self, result: str, note: str = "", seconds: float | None = None) -> dict[str, Any]:
        """Return the network's row. seconds: the time of the attempt; None: there was none, or it had no end."""
        from fastcifar.system.measure import environment

        about = {"model": self.name, **{key: getattr(self, key) for key in ("parameters", "side", "enlarge", "tune")}}
        return {**about, "result": result, "note": note, "seconds": seconds, "environment": environment()}

    def everything(self) -> None:
        """Do all stages. Raises the error of the first one that fails."""
        from fastcifar.data.convert import convert

        self.dataset, weights = convert(f"synthetic:{IMAGES}", self.folder / "images"), self.folder / "random.pth"
        self._write_weights(weights)
        lines: list[Mapping[str, Any]] = []

        def stop(line: Mapping[str, Any]) -> None:
            raise Stopped

        with suppress(Stopped):
            self._train("train", weights, stop)
        path = Path(self._train("restore", weights, lines.append)["directory"])
        self._predict(path, lines)

    def _write_weights(self, path: Path) -> None:
        import torch
        import torchvision

        from fastcifar.models.pretrained import as_published

        torch.manual_seed(0)
        network = torchvision.models.get_model(self.name, weights=None, **as_published(self.name))
        torch.save(network.state_dict(), path)

    def _train(self, stage: str, weights: Path, watch: Any) -> dict[str, Any]:
        from fastcifar.training.api import train_run

        self.stage = stage
        return train_run(
            None, self.dataset, out=self.folder, watch=watch, device="cpu", weights=str(weights), experiment=4,
            model=self.name, tune=self.tune, epochs=2, batch_size=4 if self.side <= WIDE else 2, amp="off",
        )  # fmt: skip

    def _predict(self, path: Path, lines: list[Mapping[str, Any]]) -> None:
        from fastcifar.errors import FastcifarError
        from fastcifar.predict.ensemble import ensemble
        from fastcifar.runs.trained import TrainedRun

        self.stage = "predict"
        run = TrainedRun.open(path)
        (probabilities,) = ensemble([run], self.dataset, "validation")
        labels = self.dataset.labels("train")
        assert labels is not None
        label = labels[self.dataset.ids("validation")[0]]
        # random weights may give the label a probability that float32 cannot hold
        predicted = -log(max(probabilities[label], FLOOR))
        measured = min(lines[run.epoch - 1]["val_loss"], -log(FLOOR))
        if not isclose(predicted, measured, rel_tol=1e-3, abs_tol=1e-4):
            raise FastcifarError(f"the kept weights have the loss {predicted:.5f}, and training had {measured:.5f}")


def parameters_of(name: str) -> int:
    """Return the number of parameters of a network with the 1,000 classes of its published weights."""
    from fastcifar.models.pretrained import published

    return int(published(name).meta["num_params"])


def row_of(name: str, folder: Path) -> dict[str, Any]:
    """Try a network in this process, and return its row. An error becomes the row's result and note."""
    attempt, started = Attempt(name, folder), time.perf_counter()
    result, note = "works", ""
    try:
        attempt.everything()
    except Exception as error:  # whatever it is, it belongs to this network alone
        result, note = f"fails: {attempt.stage}", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return attempt.row(result, note, time.perf_counter() - started)


def apart(name: str, folder: Path) -> dict[str, Any]:
    """Return the row of a network that a process of its own tries, also where that process is killed."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), ONE, name], cwd=folder, stdout=subprocess.PIPE, check=False
    )
    if done.returncode == 0:
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return row
    return Attempt(name, folder).row("fails", f"its process ended with status {done.returncode}")


def try_all(
    names: Iterable[str], file: Path, attempt: Callable[[str, Path], dict[str, Any]] = apart
) -> list[dict[str, Any]]:
    """Try networks one after another, and return all rows of the file, which is written after each of them."""
    from fastcifar.show.console import say
    from fastcifar.throughput import rows

    found = {row["model"]: row for row in (rows.read(file) if file.exists() else [])}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="networks-") as folder:
            found[name] = row = attempt(name, Path(folder))
        rows.write((found[each] for each in sorted(found)), file)
        say(f"{name}: {row['result']} {row['note']}", stderr=True)
    return list(found.values())


def untried(name: str, folder: Path) -> dict[str, Any]:
    """Return the row of a network that is too large to be tried."""
    return Attempt(name, folder).row("untested", f"has more than {LARGEST // 10**6} million parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names; default: all of torchvision's that have no row yet")
    parser.add_argument("--out", type=Path, default=ROWS, help="the file of rows")
    parser.add_argument(ONE, action="store_true", help=argparse.SUPPRESS)  # print the row of a single network
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a stop removes the temporary folder
    sys.path.insert(0, str(ROOT))
    from fastcifar.errors import FastcifarError
    from fastcifar.models.names import torchvision_names
    from fastcifar.throughput import rows

    if options.one:
        print(json.dumps(row_of(options.networks[0], Path.cwd())))
        return
    os.nice(10)
    if unknown := [name for name in options.networks if name not in torchvision_names()]:
        parser.error(f"torchvision has no classification network {unknown[0]!r}")
    try:
        known = {row["model"] for row in rows.read(options.out)} if options.out.exists() else set()
        missing = sorted(torchvision_names() - known, key=parameters_of)  # the small ones first, which are quick
        for name in () if options.networks else missing:
            try_all([name], options.out, untried if parameters_of(name) > LARGEST else apart)
        found = try_all(options.networks, options.out)
    except FastcifarError as error:
        parser.exit(error.exit_code, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the same command goes on\n")
    sys.exit(any(row["result"].startswith("fails") for row in found))


if __name__ == "__main__":
    main()
