"""Train the gallery's runs in the background, and keep the results of each in docs/gallery/runs.

    fastcifar convert IMAGES data/cifar10
    make gallery DATA=data/cifar10

The runs are those of experiments 1 to 3 that the report's figures show, and more seeds of experiment 2. Each run trains
to the end of its protocol in float32, on one thread and at the lowest priority. It can be stopped at any time: the same
command continues from the last whole epochs. A run whose record is in docs/gallery/runs is not trained again.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "gallery" / "runs"
DATASET = "dataset.json"  # in RECORDS: the dataset that the runs were trained on
KEPT = ("run.json", "metrics.jsonl", "predictions.safetensors", "summary.json")
MORE_SEEDS = range(3, 10)
HEADLINES = (  # the configurations of experiment 2 whose accuracy the report states
    {"dropout": 0.0, "recipe": "none"},
    {"dropout": 0.5, "recipe": "none"},
    {"dropout": 0.5, "recipe": "basic"},
    {"dropout": 0.5, "recipe": "erasing"},
)


def chosen(dataset: Any) -> list[Any]:
    """Return the specs of the gallery's runs in the order of training, each once."""
    return list(dict.fromkeys(spec for part in _parts(dataset) for spec in part))


def _parts(dataset: Any) -> Iterator[Sequence[Any]]:
    import torch

    from fastcifar.experiments import SEEDS
    from fastcifar.grid.wanted import Wanted, runs_of
    from fastcifar.report.figures import FIGURES

    def runs(number: int, protocol: str, where: dict[str, Any], seeds: Sequence[int] = SEEDS) -> Sequence[Any]:
        only = {key: [value] for key, value in where.items()}
        device = torch.device("cpu")
        return runs_of(Wanted([number], protocols=[protocol], seeds=seeds, only=only, amp="off"), dataset, device).specs

    where = {shown.number: dict(shown.where) for shown in FIGURES}
    both = ("sound", "as-run")
    yield from (runs(2, protocol, where[number]) for protocol in both for number in (3, 5, 7))
    yield from (runs(1, protocol, where[1]) for protocol in both)
    yield from (runs(3, protocol, where[9] | {"batch_size": 128}) for protocol in both)
    yield from (runs(3, protocol, where[9]) for protocol in both)
    common = {"batch_size": 128, "lr": 1e-3, "l2": 0.0}
    yield from (runs(2, protocol, common | each, MORE_SEEDS) for each in HEADLINES for protocol in both)


def require_same_images(dataset: Any, records: Path) -> None:
    """Raise UsageError where the dataset is not that of the records, FastcifarError for a damaged DATASET file."""
    from fastcifar.errors import FastcifarError, UsageError

    file = records / DATASET
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        name, sha256, split_seed = known["name"], known["sha256"], int(known["split_seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FastcifarError(f"{file} does not name the gallery's images ({error!r}); restore the file") from error
    if dataset.sha256 != sha256:
        raise UsageError(
            f"{dataset.path} has the hash {dataset.sha256[:12]}, but the gallery's dataset has {sha256[:12]}: {name}, "
            f"split with seed {split_seed}; convert those images, or name their dataset with DATA"
        )


def keep(spec: Any, out: Path, records: Path, dataset: Any) -> str:
    """Copy the files of a finished run, predictions included, into its record. Returns its result in words.

    Raises FastcifarError, and records nothing, where a file is damaged or the predictions cannot be computed.
    """
    import torch

    from fastcifar.errors import FastcifarError
    from fastcifar.report.predictions import Predictions, predict
    from fastcifar.runs.directory import RunDirectory
    from fastcifar.runs.record import RunRecord
    from fastcifar.show.text import counted

    directory = RunDirectory.of(spec, out)
    run = RunRecord.read(directory)
    accuracy, epochs = run.results["val_accuracy"], len(run.lines)
    notes = predict([] if accuracy is None else [directory.path], dataset, torch.device("cpu"))
    if notes or epochs != run.results["epochs"]:
        raise FastcifarError(notes[0] if notes else f"{directory.path} has metrics of {epochs} of its epochs")
    Predictions.read(directory)
    files = (directory.path / name for name in KEPT)
    RunDirectory.of(spec, records).receive({file.name: file.read_bytes() for file in files if file.exists()})
    return f"{'diverged' if accuracy is None else f'{100 * accuracy:.2f} %'} after {counted(epochs, 'epoch')}"


def train_missing(dataset: Any, out: Path, records: Path, specs: Sequence[Any]) -> bool:
    """Train the runs that have no record yet, in order. Returns whether every run now has a record."""
    import torch

    from fastcifar.errors import FastcifarError
    from fastcifar.grid.leases import Leases
    from fastcifar.grid.local import Local
    from fastcifar.grid.messages import Ended, Event
    from fastcifar.grid.packing import Pack, unfinished
    from fastcifar.grid.progress import Progress
    from fastcifar.grid.scheduler import Limits, Scheduler
    from fastcifar.packs.names import SIDE_BY_SIDE
    from fastcifar.runs.directory import RunDirectory
    from fastcifar.show.console import say
    from fastcifar.show.text import counted

    by_id = {spec.run_id: spec for spec in specs}

    def record(spec: Any) -> None:
        try:
            result = keep(spec, out, records, dataset)
        except (FastcifarError, OSError) as error:
            say(f"{spec.run_id} has no record: {error}", stderr=True)
            return
        say(f"{len(specs) - len(unfinished(specs, records))} of {len(specs)}: {spec.run_id}, {result}", stderr=True)

    def record_finished() -> None:
        for spec in unfinished(specs, records):
            if (RunDirectory.of(spec, out).path / "summary.json").exists():
                record(spec)

    record_finished()  # an earlier command may have stopped between a run's end and its record
    todo = unfinished(specs, records)
    say(f"{len(specs) - len(todo)} of {counted(len(specs), 'run')} recorded in {records}", stderr=True)
    if not todo:
        return True
    torch.set_num_threads(1)
    with (
        Leases(out) as leases,
        Local(dataset, out, ["cpu"], way=SIDE_BY_SIDE) as executor,
        Progress(todo, len(specs) - len(todo), len(dataset.ids("training"))) as progress,
    ):

        def watch(worker: str, event: Event) -> None:
            progress(worker, event)
            if isinstance(event, Ended) and event.summary is not None:
                record(by_id[event.run_id])

        # one pack for all runs: side by side, a run starts as soon as a core is free
        Scheduler([Pack(tuple(todo))], executor, out, leases, watch, Limits(most=len(todo))).run()
    record_finished()  # runs that another process trained
    return not unfinished(specs, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "cifar10", help="the images, as a dataset")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gallery", help="folder of the run directories")
    options = parser.parse_args()
    os.nice(19)
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch is loaded: waiting threads then leave the cores free
    if not sys.stdin.isatty():  # with a process group of its own, a signal reaches the workers and nothing else
        os.setpgrp()
    sys.path.insert(0, str(ROOT))
    from fastcifar.data.dataset import Dataset
    from fastcifar.errors import FastcifarError

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    print(f"to pause: kill -STOP -{os.getpgrp()}; to continue: kill -CONT -{os.getpgrp()}", file=sys.stderr)
    try:
        dataset = Dataset.open(options.data)
        require_same_images(dataset, RECORDS)
        sys.exit(0 if train_missing(dataset, options.out, RECORDS, chosen(dataset)) else 1)
    except FastcifarError as error:
        print(f"make gallery: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command continues from the last whole epochs", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
