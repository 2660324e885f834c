"""The experiments, recipes, pipelines and runs that exist, as plain data and as tables."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastcifar.errors import unknown
from fastcifar.experiments import EXPERIMENTS, PROTOCOLS
from fastcifar.pipeline.names import kept_available
from fastcifar.recipes import RECIPES
from fastcifar.runs.record import read_runs
from fastcifar.show.columns import Column, Fitted
from fastcifar.show.text import spread

Rows = list[dict[str, Any]]


def sections(what: str, out: Path) -> dict[str, Rows]:
    """Return the rows of one section, or of all sections for "all", by section.

    out: the folder of the run directories. Raises UsageError for an unknown section.
    """
    if what == "all":
        return {name: rows(out) for name, rows in SECTIONS.items()}
    if what not in SECTIONS:
        raise unknown("section", what, [*SECTIONS, "all"])
    return {what: SECTIONS[what](out)}


def section_tables(sections: dict[str, Rows]) -> list[Fitted]:
    """Return the sections as tables for the terminal."""
    return [Fitted(_columns(rows), title=name) for name, rows in sections.items()]


def _columns(rows: Rows) -> list[Column]:
    if not rows:
        return [Column("none yet", [])]
    texts = {key: [_text(row[key]) for row in rows] for key in rows[0]}
    if "title" in texts:  # of experiments: the name of all rows of an experiment
        numbers, titles = texts.pop("exp"), texts.pop("title")
        named = [f"{number} {title}" for number, title in zip(numbers, titles, strict=True)]
        texts = {"experiment": named, **texts}
    return [Column(key, cells, number=isinstance(rows[0].get(key), int | float)) for key, cells in texts.items()]


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
        for name, reason in kept_available().items()
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


SECTIONS: dict[str, Callable[[Path], Rows]] = {
    "experiments": lambda out: _experiments(),
    "recipes": lambda out: _recipes(),
    "pipelines": lambda out: _pipelines(),
    "runs": _runs,
}
"""The sections, each with the function that returns its rows for the folder of the run directories."""


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
