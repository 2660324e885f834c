"""A page of benchmark rows: speeds with their ranges and ceilings, by device, and what was verified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.show import provenance
from fastcifar.show.figures import inline, save
from fastcifar.show.html import rendered
from fastcifar.show.tables import Cell, Table
from fastcifar.show.text import counted
from fastcifar.system.atomic import whole
from fastcifar.throughput import rows as files
from fastcifar.throughput.plot import dots
from fastcifar.throughput.table import heat_name, pixels

HERE = Path(__file__).resolve().parent
CONTESTANTS = ("pipeline", "kernel", "loop")
"""the key that names who competed, by kind of rows"""
NOTES = (
    "A dot is the median of the turns, and its line goes from the slowest to the fastest turn. The axes are "
    "logarithmic, so that equal distances are equal ratios. An open dot belongs to a contestant whose pixels were not "
    "verified; the last column of the rows says why.",
    "The dotted line is what the memory's bandwidth, measured in the same run, would let through.",
    "Rows of one panel ran on one machine, in turns; rows of different machines are apart and do not compare.",
)


@dataclass(frozen=True)
class Part:
    """The rows of a file of one device."""

    name: str
    title: str
    where: str
    svg: str
    table: Table


def build(sources: Sequence[Path], out: Path) -> list[str]:
    """Write index.html and a picture of each part, from files of rows or folders of such files; returns their names.

    Raises UsageError where no row has a speed, FastcifarError for a file that does not hold rows.
    """
    parts, names = [], []
    for path in _files(sources):
        for device, found in _by_device(files.read(path)).items():
            name = f"{path.stem}-{device}".replace(" ", "-").replace(",", "")
            alike = [_alike(row) for row in found]
            figure = dots(alike)
            save(figure, out, name)
            names += [f"{name}.png", f"{name}.svg"]
            title = f"{path.stem}: {device}"
            parts.append(Part(name, title, _where(found), inline(figure, title), _table(name, alike)))
    if not parts:
        raise UsageError(f"no row of {', '.join(map(str, sources))} has a speed (images_per_s)")
    html = rendered(
        HERE,
        "page.html",
        ("tables.js",),
        title="Throughput",
        lead=f"{counted(len(parts), 'set')} of rows, each with the machine and the commit that it is of.",
        foot="Made by fastcifar.",
        sections=[("missing", "How to read this"), *((part.name, part.title) for part in parts)],
        notes=NOTES,
        parts=parts,
        data={},
    )
    with whole(out / "index.html") as path:
        path.write_text(html, encoding="utf-8")
    return ["index.html", *names]


def _files(sources: Sequence[Path]) -> list[Path]:
    found = []
    for source in sources:
        if source.is_dir():
            found += sorted(source.glob("*.jsonl"))
        elif source.is_file():
            found.append(source)
        else:
            raise UsageError(
                f"there is neither a file nor a folder {source}; fastcifar bench --out {source} makes rows"
            )
    return found


def _by_device(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of contests, by the device that their environment names; of devices that any of them has a speed on."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        # a run's speed is no contest's: it has no turns, so no range
        if "images_per_s_min" in row and any(row.get(key) for key in CONTESTANTS):
            groups.setdefault(_device(row), []).append(row)
    return {device: found for device, found in groups.items() if any(row["images_per_s"] for row in found)}


def _device(row: Mapping[str, Any]) -> str:
    return provenance.hardware(row.get("environment", {}), row.get("device", "cpu"))


def _where(rows: Sequence[Mapping[str, Any]]) -> str:
    """Software and commits of the rows."""
    around = [row.get("environment", {}) for row in rows]
    return f"{provenance.software(around[0])}; commit {provenance.commits(around)}"


def _alike(row: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of every benchmark with the keys of those of pipelines; verified: None where nothing was to be compared."""
    share = row.get("write_share")
    ceiling = row.get("ceiling_images_per_s") or (
        row["images_per_s"] / share if share and row["images_per_s"] else None
    )
    missing = dict.fromkeys(("model", "recipe", "dtype", "max_abs_dev", "pixels_apart", "reason"))
    verified = row.get("verified", row.get("verified_pixels"))  # the latter of a rival, in rows of the GPU check
    return {
        **missing,
        "device": "cpu",
        "batch_size": "",
        **row,
        "recipe": row.get("recipe") or "",
        "dtype": row.get("dtype") or "",
        "pipeline": next(str(row[key]) for key in CONTESTANTS if row.get(key)),
        "ceiling_images_per_s": ceiling,
        "verified": True if verified is None else verified,
        "compared": verified is not None,
    }


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    lines = [
        [
            Cell(heat_name(row)), Cell(row["pipeline"]), *_speed(row), Cell(_share(row)),
            Cell(pixels(row) if row["compared"] else "not compared"),
        ]
        for row in rows
    ]  # fmt: skip
    columns = ["work", "contestant", "images/s", "range", "of memory's bandwidth", "pixels, in the same run"]
    return Table(f"{name}-rows", "The rows", "", columns, lines)


def _share(row: Mapping[str, Any]) -> str:
    ceiling = row["ceiling_images_per_s"]
    return f"{100 * row['images_per_s'] / ceiling:.1f} %" if ceiling and row["images_per_s"] else ""


def _speed(row: Mapping[str, Any]) -> list[Cell]:
    """Its median and its range; none where it got no speed, for the reason that the last column has."""
    if not row["images_per_s"]:
        return [Cell("none", -1.0), Cell("")]
    return [
        Cell(f"{row['images_per_s']:,.0f}", row["images_per_s"]),
        Cell(f"{row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f}"),
    ]
