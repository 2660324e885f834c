"""The tables of a report, for the page and for Markdown. A cell is a text with the value that it is sorted by."""

from collections.abc import Sequence
from statistics import mean, median

from fastcifar.report import audit, effects, tested
from fastcifar.report.claims import Judged, surviving
from fastcifar.report.collection import Collection, run_ids
from fastcifar.report.statistics import Interval
from fastcifar.report.verdict import NOT_RUN
from fastcifar.show.tables import EVIDENCE, Cell, Table
from fastcifar.show.text import duration, spread


def report_tables(collection: Collection) -> list[Table]:
    """Return the tables of a report besides claims and runs. A table without lines is among them, except that of test
    images, which are seldom predicted.
    """
    rows = tested.beside(collection)
    return [
        configurations(collection),
        *([tested_table(rows)] if rows else []),
        definitions_table(),
        protocols(collection),
        *two_images(collection),
        *hyperparameters(collection),
        completeness(collection),
    ]


def claims_table(judged: Judged) -> Table:
    """Return the table of the report's claims, with a line for each protocol that has runs."""
    together = surviving(judged)
    lines = [
        [
            Cell(claim.said), Cell(verdict.verdict), Cell(verdict.measured), Cell(protocol), Cell(claim.rule),
            Cell({True: "yes", False: "no", None: ""}[together.get((claim.id, protocol))]), _number(claim.experiment),
            _evidence(verdict.runs),
        ]
        for claim, by_protocol in judged
        for protocol, verdict in by_protocol.items()
    ]  # fmt: skip
    return Table(
        "claims",
        "The report's claims, and what our runs say",
        "A verdict follows from its rule and nothing else. Accuracies are measured on the images that the protocol "
        "validates on. Differences are paired by seed; where predictions are kept, their intervals hold for other "
        "images, too. Each verdict by an interval is a false alarm with a chance of 2.5 % at most. All together: "
        "whether it holds with a chance of 5 % at most that any verdict of the page is a false alarm (Holm).",
        ["the report says", "verdict", "measured", "protocol", "confirmed if", "all together", "exp", EVIDENCE],
        sorted(lines, key=lambda line: line[1].text == NOT_RUN),  # else in the report's order
    )


def configurations(collection: Collection) -> Table:
    """Return the table with a line for each configuration."""
    lines = []
    for each in collection.configurations:
        about = [run.about for run in each.runs.values()]
        lines.append(
            [
                Cell(each.label), Cell(spread(each.accuracies), mean(each.known) if each.known else -1.0),
                Cell(each.protocol), _number(each.experiment), Cell(", ".join(map(str, each.runs))),
                Cell(_each(run.row["kept_epoch"] for run in each.runs.values())),
                Cell(_each(run.row["epochs"] for run in each.runs.values())),
                _number(about[0].get("parameters") or 0),
                _number(median(row.get("images_per_s") or 0.0 for row in about)),
                _number(mean(row.get("seconds") or 0.0 for row in about)), _evidence(run_ids(each)),
            ]
        )  # fmt: skip
    return Table(
        "configurations",
        "Configurations",
        "Accuracy of the kept weights on the protocol's validation images: mean ± standard deviation (n - 1) over "
        "seeds. images/s while training: median; seconds of a run: mean. Runs that were trained beside others shared "
        "the machine and were slower than alone.",
        ["configuration", "accuracy, %", "protocol", "exp", "seeds", "kept epoch", "epochs", "parameters", "images/s",
         "seconds", EVIDENCE],
        lines,
    )  # fmt: skip


def tested_table(rows: Sequence[tested.Beside]) -> Table:
    """Return the table of validation accuracy beside test accuracy."""
    lines = [
        [
            Cell(row.configuration.label), _mean_std(row.validation), _mean_std(row.test), _points(row.gap),
            Cell(row.configuration.protocol), _number(row.configuration.experiment), _evidence(row.runs),
        ]
        for row in rows
    ]  # fmt: skip
    return Table(
        "tested",
        "Validation accuracy beside test accuracy",
        "Accuracy of the same kept weights on clean validation images and on the dataset's own labelled test images, "
        "which are not Kaggle's: mean ± standard deviation (n - 1) over seeds. The validation images chose the epoch "
        "whose weights are kept, so their accuracy is optimistic; the test images chose nothing. Gap: validation minus "
        "test, in points, with its 95 % interval over seeds and images.",
        ["configuration", "validation, %", "test, %", "gap", "protocol", "exp", EVIDENCE],
        lines,
    )


def definitions_table() -> Table:
    """Return the table of the differences between the protocols."""
    properties = audit.definitions()
    names = list(properties[0][1])
    lines = [[Cell(what), *(Cell(by[name]) for name in names)] for what, by in properties]
    return Table("protocols", "What the protocols differ in", "", ["", *names], lines)


def protocols(collection: Collection) -> Table:
    """Return the table of configurations under two protocols, with the change of accuracy."""
    lines = [
        [
            Cell(each.label), Cell(" → ".join(each.protocols)), *map(_percent, each.accuracies), _points(each.change),
            _evidence(each.runs),
        ]
        for each in audit.compared(collection)
    ]  # fmt: skip
    return Table(
        "audit",
        "The same configuration under two protocols",
        "Accuracies as each protocol measures and keeps them; the change in points with its 95 % interval (t, paired "
        "by seed).",
        ["configuration", "protocols", "the first, %", "the second, %", "change", EVIDENCE],
        lines,
    )


def two_images(collection: Collection) -> list[Table]:
    """Return the tables of accuracies on clean and on augmented images, and of the gains between recipes."""
    kinds, steps = audit.on_two_kinds_of_images(collection)
    note = (
        "The same kept weights on clean validation images and on the same images under the training transform. "
        "Experiment 2, batch 128, lr 0.001, dropout 0.5, no L2."
    )
    rows = [
        [Cell(each.protocol), Cell(each.recipe), _mean_std(each.clean), _mean_std(each.augmented), _evidence(each.runs)]
        for each in kinds
    ]
    changes = [
        [Cell(each.protocol), Cell(each.what), _points(each.clean), _points(each.augmented), _evidence(each.runs)]
        for each in steps
    ]
    return [
        Table("images", "Augmentation, on clean and on augmented images", note,
              ["protocol", "recipe", "clean, %", "augmented, %", EVIDENCE], rows),
        Table("steps", "What a step of augmentation gains",
              "Points of accuracy, 95 % intervals over seeds and images. Augmented: each network on "
              "images under its own transform.",
              ["protocol", "from → to", "on clean images", "on augmented images", EVIDENCE], changes),
    ]  # fmt: skip


def hyperparameters(collection: Collection) -> list[Table]:
    """Return the tables of the hyper-parameters' main effects on accuracy, and of their interactions."""
    mains: list[list[Cell]] = []
    both: list[list[Cell]] = []
    for protocol in collection.protocols:
        for number in sorted({each.experiment for each in collection.find(protocol=protocol)}):
            for lines, found in (
                (mains, effects.main_effects(collection, number, protocol)),
                (both, effects.interactions(collection, number, protocol)),
            ):
                lines += [
                    [_number(number), Cell(protocol), Cell(each.what), _points(each.interval),
                     _number(each.interval.n), _evidence(each.runs)]
                    for each in found
                ]  # fmt: skip
    note = (
        "The mean change of accuracy in points, over pairs of configurations that differ in nothing else, with its "
        "95 % interval (t over the pairs; none for a single pair)."
    )
    columns = ["exp", "protocol", "from → to", "change", "pairs", EVIDENCE]
    return [
        Table("effects", "Hyper-parameters: main effects", note, columns, mains),
        Table("interactions", "Hyper-parameters: interactions",
              "Points of accuracy by which the second change alters the effect of the first.", columns, both),
    ]  # fmt: skip


def completeness(collection: Collection) -> Table:
    """Return the table of how many runs of the report's grid have ended."""
    lines = [
        [_number(number), Cell(protocol), Cell(f"{ended} of {total}", ended / total)]
        for number, protocol, ended, total in collection.missing()
    ]
    note = "Runs of the report's whole grid, three seeds each, that have ended."
    return Table("complete", "How much of the grid was run", note, ["exp", "protocol", "runs"], lines)


def runs_table(collection: Collection) -> Table:
    """Return the table with a line for each run."""
    lines = [
        [
            Cell(run.run_id, None, (run.run_id,)), _percent(run.accuracy), Cell(str(run.row["status"])),
            _number(each.experiment), Cell(each.protocol), _number(run.row["seed"]),
            _number(run.row["kept_epoch"]), _number(run.row["epochs"]),
            _number(run.row["images_per_s"]), _number(run.row["seconds"]), Cell(str(run.row["precision"])),
        ]
        for each in collection.configurations
        for run in each.runs.values()
    ]  # fmt: skip
    return Table(
        "runs",
        "Runs",
        "",
        ["run", "accuracy, %", "status", "exp", "protocol", "seed", "kept epoch", "epochs", "images/s",
         "seconds", "precision"],
        lines,
    )  # fmt: skip


def took(collection: Collection) -> str:
    """Return the sum of all runs' training times, in words."""
    return duration(sum(run.row["seconds"] or 0.0 for run in collection.runs))


def _evidence(ids: tuple[str, ...]) -> Cell:
    return Cell(str(len(ids)) if ids else "", float(len(ids)), ids)


def _number(value: float | None) -> Cell:
    if value is None:
        return Cell("none", -1.0)
    return Cell(f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.1f}", float(value))


def _percent(value: float | None) -> Cell:
    return Cell("none", -1.0) if value is None else Cell(f"{100 * value:.2f}", value)


def _mean_std(values: tuple[float, float | None]) -> Cell:
    centre, std = values
    return Cell(f"{100 * centre:.2f}" + ("" if std is None else f" ± {100 * std:.2f}"), centre)


def _points(interval: Interval | None) -> Cell:
    return Cell("none") if interval is None else Cell(interval.points(), interval.mean)


def _each(values: object) -> str:
    return ", ".join("none" if value is None else str(value) for value in values)  # type: ignore[attr-defined]
