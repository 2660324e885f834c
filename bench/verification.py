"""Measure what it costs that nothing is believed: opening a dataset, writing an epoch, and reading thousands of runs.

    python bench/verification.py --data data/cifar10

Each pair of contestants does the same work with and without its checks, in turns.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from bench.lib import rows
from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.data.formats import writable_formats
from fastcifar.data.manifest import MANIFEST, UNSEALED
from fastcifar.data.verification import VERIFIED
from fastcifar.models.build import build
from fastcifar.runs.directory import METRICS, RunDirectory
from fastcifar.runs.outcome import epoch_line, summary_of
from fastcifar.runs.plan import headline_runs
from fastcifar.runs.record import read_runs
from fastcifar.runs.spec import RunSpec
from fastcifar.system.measure import alternate, environment
from fastcifar.system.scratch import Scratch
from fastcifar.system.seals import SEAL, sealed, tensors_seal

EPOCHS = 40  # of each written run


def opened(path: Path, verify: bool) -> Callable[[], object]:
    """Return a function that opens a dataset and reads its first images, as in a process that has verified nothing."""

    def call() -> object:
        os.environ.pop(VERIFIED, None)
        return Dataset.open(path, verify).images("train")[:128].sum()

    return call


def write_runs(spec: RunSpec, out: Path, count: int) -> None:
    """Write ``count`` finished runs of made-up metrics, which have seals; without a flush to the disk for each line."""
    lines = [epoch_line(n, 1 / n, (1 / n, 1 - 1 / n), 1e-3, 1.0, 1e4, 0.0) for n in range(1, EPOCHS + 1)]
    spec = replace(spec, epochs=EPOCHS)
    summary, around = summary_of(spec, lines, 376_834), environment()
    for seed in range(count):
        own = spec.with_seed(seed)
        path = RunDirectory.of(own, out).path
        path.mkdir(parents=True)
        begun = sealed({"spec": asdict(own), "environment": around})
        chain = [begun]
        for line in lines:
            chain.append(sealed(line, chain[-1][SEAL]))
        text = "".join(f"{json.dumps(line)}\n" for line in chain[1:])
        digest = hashlib.sha256(text.encode()).hexdigest()
        (path / "run.json").write_text(json.dumps(begun, indent=1))
        (path / "metrics.jsonl").write_text(text)
        (path / "summary.json").write_text(json.dumps(sealed({**summary, METRICS: digest}, begun[SEAL]), indent=1))


def without_seals(out: Path, copy: Path) -> None:
    """Copy runs without their seals, as older versions wrote them."""
    shutil.copytree(out, copy)
    for file in copy.rglob("*.json*"):
        lines = file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]
        kept = [{k: v for k, v in json.loads(line).items() if k not in (SEAL, METRICS)} for line in lines]
        file.write_text("".join(f"{json.dumps(line)}\n" for line in kept))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="dataset directory of CIFAR-10's size")
    parser.add_argument("--runs", type=int, default=10_000, help="runs to read")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=rows.RESULTS / "verification-cpu.jsonl")
    args = parser.parse_args()
    found: list[dict[str, Any]] = []

    def time(what: str, contestants: dict[str, Callable[[], object]], repeats: int = args.repeats, **more: Any) -> None:
        for name, timing in alternate(contestants, repeats).items():
            seconds = {"seconds": timing.median, "seconds_min": timing.min, "seconds_max": timing.max}
            found.append({"what": what, "way": name, **seconds, "repeats": timing.repeats, **more})
            print(found[-1], flush=True)

    with Scratch() as place:
        folder = Path(place)
        formats = writable_formats()
        copies = {"raw": convert(args.data, folder / "raw").path}
        copies[", ".join(formats)] = convert(args.data, folder / "formats", formats).path
        copies["raw, without a seal"] = Path(shutil.copytree(copies["raw"], folder / "old"))
        manifest = json.loads((copies["raw"] / MANIFEST).read_bytes())
        manifest = {key: value for key, value in manifest.items() if key != SEAL}
        manifest["tools"]["fastcifar"] = UNSEALED[-1]
        (folder / "old" / MANIFEST).write_text(json.dumps(manifest))
        for name, path in copies.items():
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            ways = {"checked": opened(path, True), "unchecked": opened(path, False)}
            time(f"opening a dataset ({name})", ways, bytes=size)
        dataset = Dataset.open(args.data)
        (spec,) = headline_runs(2, dataset, seeds=[0])
        state = build("cnn", 10, 0.5, 0).state_dict()
        thrice = ("model", "adam.m", "adam.v")
        tensors = {f"{part}.{name}": value.clone() for part in thrice for name, value in state.items()}
        directory = RunDirectory(folder / "tensors")
        directory.path.mkdir()
        ways = {
            "whole": lambda: directory.save_tensors("checkpoint", tensors, {"epoch": 1}),
            "seal alone": lambda: tensors_seal(tensors, "{}"),
        }
        time("writing a checkpoint of the CNN", ways, bytes=sum(value.nbytes for value in tensors.values()))
        write_runs(spec, folder / "runs", args.runs)
        without_seals(folder / "runs", folder / "unsealed")
        ways = {
            "checked": lambda: len(read_runs(folder / "runs").records),
            "unchecked": lambda: len(read_runs(folder / "unsealed").records),
        }
        time("reading finished runs", ways, 3, runs=args.runs, epochs=EPOCHS)
    around = environment()
    rows.write([row | {"threads": torch.get_num_threads(), "environment": around} for row in found], args.out)


if __name__ == "__main__":
    main()
