"""The command ``fastcifar predict``: its options and output. The work is done in fastcifar.predict, which is imported
when the command runs.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fastcifar.cli.complete import choices, precisions, run_directories, splits, views
from fastcifar.cli.options import DATA, Data, Device, Json, Unverified
from fastcifar.show.console import console, note, say
from fastcifar.show.text import counted
from fastcifar.system.atomic import require_writable
from fastcifar.system.paths import path_of

KAGGLE = "https://www.kaggle.com/competitions/cifar-10/submit"


def predict_command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            parser=path_of,
            metavar="RUN",
            help="Run directories; the probabilities of several runs are averaged.",
            autocompletion=run_directories,
        ),
    ],
    data: Data = DATA,
    split: Annotated[
        str,
        typer.Option(
            help="test, val, train or labelled (train and val).",
            autocompletion=choices(splits),
        ),
    ] = "test",
    out: Annotated[
        Path | None, typer.Option(parser=path_of, help="The CSV file to write: id,label, in Kaggle's format.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            parser=path_of, help="The PNG of confusion and calibration, for labelled images; by default beside --out."
        ),
    ] = None,
    tta: Annotated[
        str,
        typer.Option(
            help="none, or flip: average with the predictions for mirrored images.",
            autocompletion=choices(views),
        ),
    ] = "none",
    device: Device = "auto",
    amp: Annotated[
        str,
        typer.Option(
            help="auto (as each run was trained), off, bfloat16 or float16.", autocompletion=choices(precisions)
        ),
    ] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at a time; by default each run's, at most 512.")
    ] = None,
    no_verify: Unverified = False,
    as_json: Json = False,
) -> None:
    """Predict classes with finished runs: write a submission for Kaggle and, where labels are known, measure accuracy.

    Examples: fastcifar predict runs/exp2/RUN-ID --data data/cifar10 --out submission.csv

    fastcifar predict runs/exp2/*/ --data data/cifar10 --split val --tta flip
    """
    require_writable(out, ".csv", "a submission is a CSV file")
    require_writable(picture, ".png", "the picture is a PNG file")
    from fastcifar.data.dataset import Dataset, split_name
    from fastcifar.errors import UsageError
    from fastcifar.predict.views import check_tta
    from fastcifar.runs.directory import require_runs
    from fastcifar.runs.plan import check_amp
    from fastcifar.system import openmp
    from fastcifar.system.launch import check_device

    # whatever can be refused is refused before torch is imported, which takes seconds
    check_tta(tta)
    check_amp(amp)
    check_device(device)
    split, dataset = split_name(split), Dataset.open(data, not no_verify)
    require_runs(runs)
    note(f"{dataset.name}: {split} images, {counted(len(runs), 'run')}; loading torch")
    openmp.choose(note)
    from fastcifar.predict.ensemble import PredictOptions, ensemble, rows_of
    from fastcifar.predict.kaggle import kaggle_ids, write_submission
    from fastcifar.runs.plan import precision_of
    from fastcifar.runs.trained import open_runs
    from fastcifar.system.devices import device_of

    on = device_of(device)
    precision = None if amp == "auto" else precision_of(amp, on)
    members = open_runs(runs, dataset)
    rows = rows_of(members, dataset, split)
    labels = dataset.labels(dataset.part(split))
    if labels is None and (out is None or picture is not None):
        raise UsageError(
            f"{data} has no labels of its {len(rows):,} {split} images, so accuracy cannot be measured; "
            + ("leave out --picture" if picture else "give --out submission.csv, or --split val")
        )
    for text in (text for member in members for text in member.notes(dataset)):
        note(text)
    probabilities = ensemble(members, dataset, split, PredictOptions(on, precision, tta, batch_size))
    answer: dict[str, Any] = {"runs": [str(member) for member in members], "split": split, "tta": tta}
    if out is not None:
        ids = kaggle_ids(dataset, split, rows)
        write_submission(out, ids, probabilities.argmax(1), dataset.classes)
        answer |= {"out": str(out), "rows": len(rows)}
    if labels is not None:
        picture = picture or (out and out.with_suffix(".png"))
        title = f"{dataset.name}, {split}: {counted(len(members), 'run')}, tta {tta}"
        answer |= _assess(probabilities, labels[rows], dataset.classes, title, picture, as_json)
    if as_json:
        print(json.dumps(answer))
    elif out is not None:
        say(f"{out}: {counted(len(rows), 'row')} by {counted(len(members), 'run')}, tta {tta}")
        if labels is None:
            note(f"next: upload {out} at {KAGGLE}, which knows the labels")


def _assess(
    probabilities: Any, labels: Any, classes: tuple[str, ...], title: str, picture: Path | None, quiet: bool
) -> dict[str, Any]:
    """Measure how good the probabilities are, print the measures unless ``quiet``, and draw the picture. Returns the
    measures for JSON.
    """
    from fastcifar.predict import scores

    result = scores.Classification.of(probabilities, labels, classes)
    if not quiet:
        say(title)
        for table in scores.score_tables(result):
            console().print(table)
    if picture is None:
        return result.plain()
    scores.draw_scores(result, picture, title)
    if not quiet:
        say(f"picture: {picture}")
    return result.plain() | {"picture": str(picture)}
