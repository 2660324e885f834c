"""The experiments, recipes, pipelines and runs that exist, as plain data and as tables."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from fastcifar.errors import UsageError
from fastcifar.experiments import EXPERIMENTS, PROTOCOLS
from fastcifar.pipeline import available
from fastcifar.recipes import RECIPES
from fastcifar.runs.record import read_runs
from fastcifar.show.text import spread

Rows = list[dict[str, Any]]


def sections(what: str, out: Path) -> dict[str, Rows]:
    """Return the rows of one section, or of all sections for "all", by section.

    out: the folder of the run directories. Raises UsageError for an unknown section.
    """
    known: dict[str, Callable[[], Rows]] = {
        "experiments": _experiments,
        "recipes": _recipes,
        "pipelines": _pipelines,
        "runs": lambda: _runs(out),
    }
    if what == "all":
        return {name: rows() for name, rows in known.items()}
    if what not in known:
        raise UsageError(f"section {what!r} does not exist; choose one of {', '.join(known)} or all")
    return {what: known[what]()}


def section_tables(sections: dict[str, Rows]) -> list[Table]:
    """Return the sections as tables for the terminal."""
    drawn = []
    for name, rows in sections.items():
        table = Table(*(rows[0] if rows else ["none yet"]), title=name)
        for row in rows:
            table.add_row(*(escape(_text(value)) for value in row.values()))
        drawn.append(table)
    return drawn


def _experiments() -> Rows:
    rows = []
    for number in EXPERIMENTS:
        for protocol in PROTOCOLS:
            declared = EXPERIMENTS[number](protocol)
            headline = {key: value for key, value in declared.configuration().items() if key != "model"}
            rows.append(
                {
                    "exp": number,
                    "title": declared.title,
                    "protocol": protocol,
                    "models": list(declared.models),
                    "configurations": len(declared.configurations()),
                    "headline": headline,
                }
            )
    return rows


def _recipes() -> Rows:
    default = asdict(RECIPES["none"])
    rows = []
    for name, recipe in RECIPES.items():
        changed = {key: value for key, value in asdict(recipe).items() if value != default[key]}
        rows.append({"recipe": name, "does": changed})
    return rows


def _pipelines() -> Rows:
    return [
        {"pipeline": name, "ready": reason is None, "missing, and the cure": reason or ""}
        for name, reason in available().items()
    ]


def _runs(out: Path) -> Rows:
    if not out.exists():
        return []
    found = read_runs(out)
    rows = [
        {
            "run": record.run_id,
            "status": record.status,
            "epochs": record.results["epochs"],
            "accuracy, %": spread([record.results["val_accuracy"]])
            if record.status in ("finished", "diverged")
            else "",
        }
        for record in found.records
    ]
    broken = [{"run": path.name, "status": "damaged", "epochs": "", "accuracy, %": ""} for path in found.damaged]
    return sorted(rows + broken, key=lambda row: row["run"])


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
