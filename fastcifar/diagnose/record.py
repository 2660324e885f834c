"""The output of a diagnosis: its table, for a terminal or in Markdown, and its folder, written whole or not at all."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from fastcifar.diagnose import picture
from fastcifar.diagnose.batchnorm import Diagnosis
from fastcifar.diagnose.experiment import Experiment
from fastcifar.diagnose.findings import DEFINITION, ArmFinding
from fastcifar.diagnose.splits import ONE, OWN, band
from fastcifar.diagnose.verdict import headline, short
from fastcifar.errors import UsageError
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.markdown import table
from fastcifar.system.atomic import neighbour, put_in_place, writing
from fastcifar.system.measure import environment

SUMMARY = "summary.json"
FILES = {"evaluations.jsonl", "seeds.jsonl", SUMMARY, "table.md", "curves.png"}
HEADER = ("arm", "loss", "restored", "accuracy, %", "jump", "restored", "final", "moved", "most")
RANKS = (0, 0, 3, 0, 0, 2, 1, 4, 5)


def finding_rows(found: Iterable[ArmFinding]) -> list[list[str]]:
    """Return the cells of each arm, in the order of HEADER."""
    return [
        [
            arm.arm,
            *map(_short, (arm.loss, arm.restored_loss)),
            f"{100 * arm.accuracy:.2f}",
            *map(_short, (arm.jump, arm.restored_jump, arm.final_range, arm.moved, arm.moved_most)),
        ]
        for arm in found
    ]


def finding_table(found: Iterable[ArmFinding]) -> Fitted:
    """Return the findings as a table for a terminal."""
    cells = zip(*finding_rows(found), strict=True)
    columns = [
        Column(f"{before} {name}" if name == "restored" else name, column, number=place > 0, rank=rank)
        for place, (name, before, rank, column) in enumerate(zip(HEADER, ("", *HEADER), RANKS, cells, strict=False))
    ]
    title = "Validation loss at the end, and how much it jumps"
    return Fitted(columns, title, DEFINITION, "table.md in the folder has them")


def diagnosis_markdown(made: Diagnosis) -> str:
    """Return Markdown: the verdicts, the arms, their loss and accuracy at the end of each epoch, and the seeds."""
    text = f"{headline(made.judgements)}\n\n" + "".join(f"- {one.sentence}\n" for one in made.judgements)
    if made.findings:
        ends = {(one.arm, one.epoch): (one.loss, one.accuracy) for one in made.evaluations}  # the last of each stays
        arms, epochs = [arm.arm for arm in made.findings], sorted({epoch for _, epoch in ends})
        by_epoch = [[str(epoch), *(_pair(ends.get((arm, epoch))) for arm in arms)] for epoch in epochs]
        text += (
            f"\n{table(HEADER, finding_rows(made.findings))}\n{DEFINITION}\n\n"
            f"Validation loss (accuracy, %) at the ends of epochs; epoch 0 is the untrained head:\n\n"
            f"{table(['epoch', *arms], by_epoch)}"
        )
    if made.seeds:
        header = ["epoch", *(f"{key}, {split}" for split in (OWN, ONE) for key in ("loss", "accuracy, %"))]
        columns = [band(made.seeds, split, key) for split in (OWN, ONE) for key in ("loss", "accuracy")]
        rows = [
            [str(n), *(_deviation(*one) for one in zip(pairs, (1, 100, 1, 100), strict=True))]
            for n, pairs in enumerate(zip(*columns, strict=True), 1)
        ]
        text += f"\nMean and standard deviation over the seeds after each epoch:\n\n{table(header, rows)}"
    return text


def summary(experiment: Experiment, made: Diagnosis) -> dict[str, Any]:
    """Return the sentences, the findings, and the settings that they depend on, ready for JSON."""
    dataset = experiment.dataset
    return {
        "sentence": headline(made.judgements),
        "suspects": [as_json(one) for one in made.judgements],
        "arms": [as_json(arm) for arm in made.findings],
        "seconds": made.seconds,
        "spec": asdict(experiment.spec),
        "dataset": dataset.name,
        "images": {split: len(dataset.ids(split)) for split in ("training", "validation")},
        "steps": experiment.steps,
        "evaluations_an_epoch": len(experiment.evaluated),
        "device": str(experiment.device),
        "environment": environment(),
    }


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise UsageError where a diagnosis cannot be written to ``folder``."""
    if not folder.exists():
        return
    if not overwrite:
        raise UsageError(f"{folder} exists; choose another --out, or replace the diagnosis there with --overwrite")
    if not folder.is_dir() or not {SUMMARY} <= {file.name for file in folder.iterdir()} <= FILES:
        raise UsageError(f"{folder} is not a diagnosis, and --overwrite replaces nothing else; choose another --out")


def write_diagnosis(folder: Path, made: Diagnosis, summary: Mapping[str, Any], overwrite: bool) -> None:
    """Write FILES, all of them or none: the evaluations as rows, the summary, the tables and the picture.

    seeds.jsonl is written only where the splits were measured. Raises FastcifarError where they cannot be written.
    """
    spec, images = summary["spec"], summary["images"]
    title = (
        f"{spec['model']} (weights: {spec['weights']}), {spec['recipe']}, batch {spec['batch_size']}, "
        f"seed {spec['seed']}\n"
        f"{images['training']:,} training and {images['validation']:,} validation images of {summary['dataset']}"
    )
    with neighbour(folder) as temporary:
        with writing(temporary):
            for name, rows in (("evaluations.jsonl", made.evaluations), ("seeds.jsonl", made.seeds)):
                if rows or name == "evaluations.jsonl":
                    (temporary / name).write_text("".join(f"{json.dumps(as_json(row))}\n" for row in rows))
            (temporary / SUMMARY).write_text(json.dumps(summary, indent=1))
            (temporary / "table.md").write_text(diagnosis_markdown(made), "utf-8")
            picture.draw_diagnosis(made, title, temporary / "curves.png")
        put_in_place(temporary, folder, overwrite)


def as_json(of: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, with None (null in JSON) for a value that is not finite."""
    found: dict[str, Any] = _plain(asdict(of))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _pair(end: tuple[float, float] | None) -> str:
    return "" if end is None else f"{_short(end[0])} ({100 * end[1]:.2f})"


def _deviation(pair: tuple[float, float], scale: int) -> str:
    mean, deviation = pair
    return f"{scale * mean:.4g} ± {short(scale * deviation)}"


def _short(value: float) -> str:
    return f"{value:.3g}" if isfinite(value) else "none"
