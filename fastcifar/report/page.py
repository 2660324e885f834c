"""Write a report as index.html: one file that needs neither network nor server."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastcifar.report.collection import Collection
from fastcifar.report.contents import Contents
from fastcifar.report.verdict import CONFIRMED, CONTRADICTED, NOT_RUN, UNDECIDED
from fastcifar.show import provenance
from fastcifar.show.figures import COLOURS
from fastcifar.show.html import rendered
from fastcifar.show.tables import EVIDENCE, Cell, Table
from fastcifar.show.text import printable

HERE = Path(__file__).resolve().parent
MARKS = {CONFIRMED: "yes", CONTRADICTED: "no", UNDECIDED: "none", NOT_RUN: "none"}
HASH = 12  # characters that are shown of a commit and of a dataset's hash
DIGITS = 5  # significant digits of a curve's values: finer than a screen's pixels
SECTIONS = (
    ("said", "Verdicts"), ("missing", "Overview"), ("claims", "Claims"), ("figures", "Figures"),
    ("configurations", "Configurations"), ("tested", "Test images"),
    ("protocols", "Audit"), ("effects", "Effects"), ("curves", "Curves"), ("runs", "Runs"), ("confusion", "Confusion"),
    ("samples", "Images"), ("environment", "Environment"),
)  # fmt: skip


def page(contents: Contents, runs: Table, samples: Sequence[tuple[str, bytes]], collection: Collection) -> str:
    """Return the HTML of the page.

    runs: a table with a line for each run. samples: the name of a recipe and a PNG of images under it. collection: the
    runs whose curves and confusion matrices are shown.
    """
    confused = confusions(collection)
    tables = {table.name: table for table in (contents.claims, *contents.tables, runs)}
    return rendered(
        HERE,
        "page.html",
        ("tables.js", "curves.js"),
        title=contents.title,
        lead=contents.lead,
        foot=contents.foot,
        sections=[(name, text) for name, text in SECTIONS if name != "tested" or name in tables],
        marks=MARKS,
        said=contents.said,
        notes=contents.notes,
        tables=tables,
        figures=contents.figures,
        protocols=list(dict.fromkeys(figure.protocol for figure in contents.figures)),
        confused=list(confused),
        samples=[(name, base64.b64encode(picture).decode()) for name, picture in samples],
        data={"colours": COLOURS, "runs": curves_by_run(collection), "confusion": confused},
    )


def curves_by_run(collection: Collection) -> dict[str, dict[str, list[float | None]]]:
    """Return by run-id, for each epoch: validation accuracies (a), validation losses (v) and training losses (t).

    The ids are as the page shows them, and so are those of `confusions`.
    """
    keys = {"a": "val_accuracy", "v": "val_loss", "t": "train_loss"}
    return {
        printable(run.run_id): {short: [_short(line[key]) for line in run.lines] for short, key in keys.items()}
        for run in collection.runs
    }


def confusions(collection: Collection) -> dict[str, dict[str, Any]]:
    """Return class names and images by (true, predicted) class, by the run-id of each run with predictions."""
    by_run = {}
    for run in collection.runs:
        classes = run.begun.get("dataset", {}).get("classes", ())
        if run.predictions is not None and run.predictions.within(len(classes)):
            confusion = run.predictions.confusion(len(classes)).tolist()
            by_run[printable(run.run_id)] = {"classes": classes, "confusion": confusion}
    return by_run


def environments(collection: Collection) -> Table:
    """Return a table of where runs were trained: a line for each machine, software and commit."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for run in collection.runs:
        groups.setdefault(_environment(run.begun), []).append(run.run_id)
    lines = [[*map(Cell, about), Cell(str(len(ids)), float(len(ids)), tuple(ids))] for about, ids in groups.items()]
    columns = ["device", "processor", "software", "commit", "dataset", EVIDENCE]
    return Table("environment", "Where they were trained", "", columns, lines)


def _environment(begun: Mapping[str, Any]) -> tuple[str, ...]:
    about, dataset = begun.get("environment", {}), begun.get("dataset", {})
    device = str(begun.get("device", "unknown"))
    return (
        device, provenance.hardware(about, device), provenance.software(about),
        provenance.commit_text(about.get("commit"), about.get("dirty"), HASH),
        f"{dataset.get('name', 'unknown')} {str(dataset.get('sha256', ''))[:HASH]}",
    )  # fmt: skip


def png(image: Any) -> bytes:
    """Encode a PIL image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
