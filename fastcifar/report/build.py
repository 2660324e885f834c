"""Build a report from a folder of runs: read the runs, draw the figures, and write the page and the Markdown file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError
from fastcifar.experiments import PROTOCOLS
from fastcifar.report import tested
from fastcifar.report.claims import CLAIMS, claims_on_test, counted_verdicts, verdicts
from fastcifar.report.collection import Collection, collect, run_ids, with_predictions
from fastcifar.report.contents import Contents, Drawn
from fastcifar.report.evidence import Evidence, evidence_of, known_datasets, unlike_test_images
from fastcifar.report.figures import FIGURES, draw_figure
from fastcifar.report.markdown import markdown
from fastcifar.report.page import environments, page, png
from fastcifar.report.predictions import FILES, predict
from fastcifar.report.preview import sheet
from fastcifar.report.said import sentences
from fastcifar.report.tables import claims_table, report_tables, runs_table, took
from fastcifar.report.testable import require_test_part
from fastcifar.runs.record import UNCHECKED
from fastcifar.show.figures import inline, save
from fastcifar.show.progress import track
from fastcifar.show.provenance import commit_text
from fastcifar.show.tables import Cell
from fastcifar.show.text import counted
from fastcifar.system import machine
from fastcifar.system.atomic import whole
from fastcifar.version import __version__

TITLE = "Deep learning on CIFAR-10, regenerated"
SAMPLES, DRAWS = 4, 4  # sample images under each recipe, and augmented versions of each image
SHOWN = ("none", "basic", "erasing")  # the recipes of the report


@dataclass(frozen=True)
class Report:
    """A report that has been built."""

    collection: Collection
    contents: Contents
    verdicts: Mapping[str, int]
    """The number of claims with each verdict. A claim counts once for each protocol."""
    files: Sequence[str]
    """The names of the files in the report's folder."""
    tested: Mapping[str, Any] | None = None
    """The accuracies and verdicts on the dataset's test images, as `tested.plain` returns them; None without these."""


def build_report(
    runs: Path,
    out: Path,
    dataset: Dataset | None = None,
    device: torch.device = torch.device("cpu"),
    test: bool = False,
) -> Report:
    """Build the report of the runs below the folder ``runs``, in the folder ``out``.

    dataset: used to compute the predictions of kept weights and to show sample images; both are left out without it.
    device: where predictions are computed. test: judge the claims on Kaggle's test images on the dataset's own labelled
    test images. Raises UsageError where ``runs`` is no folder, or no run in it has ended; for ``test``, also where the
    dataset has no labelled test images or is not that of the runs.
    """
    if test:
        require_test_part(dataset, runs)
    collection = collect(runs)
    if not collection.runs:
        raise UsageError(f"no run below {runs} has ended, so there is nothing to report" + _reasons(collection.notes))
    unpredicted: list[str] = []
    on_test = dataset if test else None
    if dataset is not None:
        kept = [run.path for run in collection.runs if run.accuracy is not None]
        unpredicted = predict(kept, dataset, device, list(FILES) if test else ["validation"])
        collection = with_predictions(collection, on_test)
    out.mkdir(parents=True, exist_ok=True)
    evidence = evidence_of(collection, known_datasets(runs, dataset))
    figures = _figures(collection, out, evidence)
    notes = [*_overview(collection, figures), *_aside(evidence), *collection.notes, *unpredicted]
    unlike = None if on_test is None else unlike_test_images(on_test)
    judged = verdicts(evidence.counting, collection.protocols, CLAIMS if on_test is None else claims_on_test(unlike))
    said, answer = sentences(judged, evidence), None
    if on_test is not None:
        rows, images = tested.beside(collection), len(on_test.ids("test"))
        more = tested.sentences(rows, images, unlike)
        said, answer = [*said, *more], tested.plain(rows, judged, images, more)
    others = [*report_tables(collection), environments(collection)]
    contents = Contents(TITLE, _lead(collection), said, notes, claims_table(judged), figures, others, _foot())
    samples = [] if dataset is None else _samples(dataset)
    html = page(contents, runs_table(collection), samples, collection)
    for name, content in (("index.html", html), ("report.md", markdown(contents))):
        with whole(out / name) as path:
            path.write_text(content, encoding="utf-8")
    files = ["index.html", "report.md", *(figure.file for figure in figures)]
    return Report(collection, contents, counted_verdicts(judged), files, answer)


def _figures(collection: Collection, out: Path, judging: Evidence) -> list[Drawn]:
    """Draw the figures that have at least one run, and write their files."""
    drawable = [
        (protocol, shown, series)
        for protocol in collection.protocols
        for shown in FIGURES
        if (series := shown.series(collection, protocol))
    ]
    drawn = []
    for protocol, shown, series in track(drawable, "figures"):
        ids = run_ids(*(each for _, each in series))
        figure = draw_figure(shown, series)
        save(figure, out, shown.name(protocol))
        aside = sum(run_id in judging.aside for run_id in ids)
        lacking = shown.missing(collection, protocol)
        missing = "; ".join([*lacking, *([f"{counted(aside, 'run')} of it may not judge"] if aside else [])])
        evidence = Cell(counted(len(ids), "run"), float(len(ids)), ids)
        svg = inline(figure, f"{shown.title}, {protocol}")
        file, panels = f"{shown.name(protocol)}.png", len(shown.metrics)
        drawn.append(Drawn(shown.number, protocol, shown.title, file, svg, panels, missing, evidence))
    return drawn


def _overview(collection: Collection, figures: Sequence[Drawn]) -> list[str]:
    """Return sentences on the completeness of each protocol's grid, incomplete figures, and runs that diverged."""
    notes, grid = [], collection.missing()
    for name in collection.protocols:
        rows = [(ended, total) for _, protocol, ended, total in grid if protocol == name]
        ended, total = (sum(row[n] for row in rows) for n in range(2))
        drawn = {figure.number for figure in figures if figure.protocol == name}
        lacking = [str(shown.number) for shown in FIGURES if shown.number not in drawn]
        partly = [str(figure.number) for figure in figures if figure.protocol == name and figure.missing]
        notes.append(
            f"Protocol {name}: {ended} of {total} runs of the report's grid"
            + (f"; nothing of figures {', '.join(lacking)}" if lacking else "")
            + (f"; figures {', '.join(partly)} lack some of their runs" if partly else "")
        )
    absent = [name for name in PROTOCOLS if name not in collection.protocols]
    if absent:
        notes.append(f"No run of protocol {' or '.join(absent)}")
    diverged = [run.run_id for run in collection.runs if run.row["status"] == "diverged"]
    if diverged:
        notes.append(f"{counted(len(diverged), 'run')} diverged: {', '.join(diverged)}")
    for checked, meaning in UNCHECKED.items():
        if count := sum(run.row["checked"] == checked for run in collection.runs):
            notes.append(f"{counted(count, 'run')} {meaning}")
    epochs = {run.row["max_epochs"] for run in collection.runs}
    short = sorted(epoch for epoch in epochs if epoch < 100)
    if short:
        notes.append(f"Some runs were limited to {', '.join(map(str, short))} epochs; the report's limit is 100")
    without = sum(run.predictions is None for run in collection.runs if run.accuracy is not None)
    if without:
        notes.append(
            f"{counted(without, 'run')} without predictions: differences of these runs are compared by seed, not by "
            "image (fastcifar report --data computes predictions from the kept weights)"
        )
    return notes


def _aside(evidence: Evidence) -> list[str]:
    """Return a sentence for each reason why runs judge no claim, with the runs."""
    reasons: dict[str, list[str]] = {}
    for run_id, why in evidence.aside.items():
        reasons.setdefault(why, []).append(run_id)
    return [
        f"{counted(len(ids), 'run')} {why}: drawn, but {'it judges' if len(ids) == 1 else 'they judge'} no claim "
        f"({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
        for why, ids in reasons.items()
    ]


def _lead(collection: Collection) -> str:
    datasets = {run.begun.get("dataset", {}).get("name", "an unknown dataset") for run in collection.runs}
    return (
        f"{counted(len(collection.runs), 'run')} of {counted(len(collection.configurations), 'configuration')} under "
        f"{', '.join(collection.protocols)}, on {', '.join(sorted(datasets))}; their times add up to "
        f"{took(collection)}. Beside each number stand the runs that it comes from."
    )


def _foot() -> str:
    name, dirty = machine.commit()
    return f"Made by fastcifar {__version__}" + (f", commit {commit_text(name, dirty)}." if name else ".")


def _samples(dataset: Dataset) -> list[tuple[str, bytes]]:
    rows = min(SAMPLES, len(dataset.ids("training")))
    return [(name, png(sheet(dataset, PROTOCOLS["sound"].recipe(name), rows, DRAWS))) for name in SHOWN]


def _reasons(notes: Sequence[str]) -> str:
    return "".join(f"; {note}" for note in notes[:3])
