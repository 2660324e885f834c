"""The output of a diagnosis: its table, for a terminal or in Markdown, and its folder, written whole or not at all."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from fastcifar.diagnose import picture
from fastcifar.diagnose.batchnorm import BatchNormExperiment, Evaluation
from fastcifar.diagnose.verdict import DEFINITION, ArmFinding, sentence
from fastcifar.errors import UsageError
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.markdown import table
from fastcifar.system.atomic import neighbour, put_in_place, writing
from fastcifar.system.measure import environment

FILES = {"evaluations.jsonl", "summary.json", "table.md", "curves.png"}
HEADER = ("arm", "loss", "restored", "accuracy, %", "jump", "restored", "between epochs", "restored", "moved", "most")


def evaluation_rows(found: Iterable[ArmFinding]) -> list[list[str]]:
    """Return the cells of each arm, in the order of HEADER."""
    return [
        [
            arm.arm,
            *(_short(loss) for loss in (arm.loss, arm.restored_loss)),
            f"{100 * arm.accuracy:.2f}",
            *map(_short, (arm.jump, arm.restored_jump, arm.epoch_jump, arm.restored_epoch_jump)),
            *map(_short, (arm.moved, arm.moved_most)),
        ]
        for arm in found
    ]


def finding_table(found: Iterable[ArmFinding]) -> Fitted:
    """Return the findings as a table for a terminal."""
    cells = zip(*evaluation_rows(found), strict=True)
    columns = [
        Column(f"{before} {name}" if name == "restored" else name, column, number=place > 0, rank=rank)
        for place, (name, before, rank, column) in enumerate(
            zip(HEADER, ("", *HEADER), (0, 0, 3, 0, 0, 0, 1, 2, 5, 6), cells, strict=False)
        )
    ]
    title = "Validation loss at the end, and how much it jumps"
    return Fitted(columns, title, DEFINITION, "table.md in the folder has them")


def diagnosis_markdown(evaluations: Sequence[Evaluation], found: Sequence[ArmFinding]) -> str:
    """Return Markdown: the sentence, the table, and each arm's loss and accuracy at the end of each epoch."""
    ends = {(evaluation.arm, evaluation.epoch): evaluation for evaluation in evaluations}  # the last of each stays
    arms, epochs = [arm.arm for arm in found], sorted({epoch for _, epoch in ends})
    by_epoch = [[str(epoch), *(_pair(ends[arm, epoch]) for arm in arms)] for epoch in epochs]
    return (
        f"{sentence(found)}\n\n{table(HEADER, evaluation_rows(found))}\n{DEFINITION}\n\n"
        f"Validation loss (accuracy, %) at the ends of epochs; epoch 0 is the untrained head:\n\n"
        f"{table(['epoch', *arms], by_epoch)}"
    )


def summary(experiment: BatchNormExperiment, found: Sequence[ArmFinding]) -> dict[str, Any]:
    """Return the sentence, the findings, and the settings that they depend on, ready for JSON."""
    dataset = experiment.dataset
    return {
        "sentence": sentence(found),
        "arms": [as_json(arm) for arm in found],
        "spec": asdict(experiment.spec),
        "dataset": dataset.name,
        "images": {split: len(dataset.ids(split)) for split in ("training", "validation")},
        "steps": experiment.steps,
        "evaluations_an_epoch": experiment.each_epoch,
        "device": str(experiment.device),
        "environment": environment(),
    }


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise UsageError where a diagnosis cannot be written to ``folder``."""
    if not folder.exists():
        return
    if not overwrite:
        raise UsageError(f"{folder} exists; choose another --out, or replace the diagnosis there with --overwrite")
    if not folder.is_dir() or {file.name for file in folder.iterdir()} != FILES:
        raise UsageError(f"{folder} is not a diagnosis, and --overwrite replaces nothing else; choose another --out")


def write_diagnosis(
    folder: Path,
    evaluations: Sequence[Evaluation],
    found: Sequence[ArmFinding],
    summary: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write FILES, all of them or none: the evaluations as rows, the summary, the tables and the picture.

    Raises FastcifarError where they cannot be written.
    """
    spec, images = summary["spec"], summary["images"]
    title = (
        f"{spec['model']} (weights: {spec['weights']}), only its last layer trained, seed {spec['seed']}\n"
        f"{images['training']:,} training and {images['validation']:,} validation images of {summary['dataset']}"
    )
    with neighbour(folder) as made:
        with writing(made):
            lines = (json.dumps(as_json(evaluation)) for evaluation in evaluations)
            (made / "evaluations.jsonl").write_text("".join(f"{line}\n" for line in lines))
            (made / "summary.json").write_text(json.dumps(summary, indent=1))
            (made / "table.md").write_text(diagnosis_markdown(evaluations, found), "utf-8")
            picture.draw_diagnosis(evaluations, title, made / "curves.png")
        put_in_place(made, folder, overwrite)


def as_json(of: Evaluation | ArmFinding) -> dict[str, Any]:
    """Return the fields, with None (null in JSON) for a value that is not finite."""
    return {
        key: None if isinstance(value, float) and not isfinite(value) else value for key, value in asdict(of).items()
    }


def _pair(evaluation: Evaluation) -> str:
    return f"{_short(evaluation.loss)} ({100 * evaluation.accuracy:.2f})"


def _short(value: float) -> str:
    return f"{value:.3g}" if isfinite(value) else "none"
