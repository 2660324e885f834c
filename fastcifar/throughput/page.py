"""An HTML page of benchmark rows by device: speeds, ranges, ceilings and the result of the verification."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.show import provenance
from fastcifar.show.figures import inline, save
from fastcifar.show.html import rendered
from fastcifar.show.tables import Cell, Table
from fastcifar.show.text import counted
from fastcifar.system.atomic import whole
from fastcifar.throughput.plot import dots
from fastcifar.throughput.rows import Speed, read
from fastcifar.throughput.table import heat_name, pixels

HERE = Path(__file__).resolve().parent
CONTESTANTS = ("pipeline", "kernel", "loop")
"""The keys that may hold a contestant's name; it depends on the kind of rows."""
LONGEST = 80  # characters of a part's name, as the name of a file is limited to 255 bytes
NOTES = (
    "A dot is the median of the turns, and its line goes from the slowest to the fastest turn. The axes are "
    "logarithmic, so that equal distances are equal ratios. An open dot belongs to a contestant whose pixels were not "
    "verified; the last column of the rows gives the reason.",
    "The dotted line is the speed that the memory's bandwidth, measured in the same run, would allow.",
    "The contestants of one panel took turns on one machine. Rows of different machines cannot be compared.",
)


@dataclass(frozen=True)
class Part:
    """A part of the page: the rows of one file and one device."""

    name: str
    title: str
    where: str
    svg: str
    narrow: str
    """The same figure for a narrow screen, as an SVG element."""
    table: Table


def build_page(sources: Sequence[Path], out: Path) -> list[str]:
    """Write index.html and the pictures of each part to ``out``, and return the names of the files.

    sources: files of rows, or folders of such files (*.jsonl). Raises UsageError where no row has a speed,
    FastcifarError for a file that does not hold rows.
    """
    parts, names = list[Part](), list[str]()
    for path in _files(sources):
        for device, found in _by_device(read(path, Speed)).items():
            name = _name(f"{path.stem}-{device}", [part.name for part in parts])
            alike = [_alike(row) for row in found]
            figure = dots(alike)
            save(figure, out, name)
            names += [f"{name}.png", f"{name}.svg"]
            title = f"{path.stem}: {device}"
            svgs = inline(figure, title), inline(dots(alike, side_by_side=1), title)
            parts.append(Part(name, title, _where(found), *svgs, _table(name, alike)))
    if not parts:
        raise UsageError(f"no row of {', '.join(map(str, sources))} has a speed (images_per_s); choose other rows")
    html = rendered(
        HERE,
        "page.html",
        ("tables.js",),
        title="Throughput",
        lead=f"{counted(len(parts), 'set')} of rows, each with its machine and its commit.",
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
    paths = []
    for source in sources:
        if source.is_dir():
            paths += sorted(source.glob("*.jsonl"))
        elif source.is_file():
            paths.append(source)
        else:
            raise UsageError(
                f"there is neither a file nor a folder {source}; make rows with fastcifar bench --out {source}"
            )
    return paths


def _name(text: str, taken: Collection[str]) -> str:
    """Return the name of a part's files and of its place on the page.

    text: it may come from a file, so no sign that a path, an address or a shell gives a meaning stays. taken: names of
    other parts.
    """
    name = re.sub(r"[^\w.()@+=-]", "-", text.replace(",", ""))[:LONGEST]
    return next(each for n in count(1) if (each := name if n == 1 else f"{name}-{n}") not in taken)


def _by_device(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of contests by the device of their environment, without devices on which no row has a speed."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        # the speed of a training run comes from no contest: it has no turns, so no range
        if "images_per_s_min" in row and any(row.get(key) for key in CONTESTANTS):
            groups.setdefault(_device(row), []).append(row)
    return {device: found for device, found in groups.items() if any(row["images_per_s"] for row in found)}


def _device(row: Mapping[str, Any]) -> str:
    return provenance.hardware(row.get("environment", {}), row.get("device", "cpu"))


def _where(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the software and the commits of the rows."""
    around = [row.get("environment", {}) for row in rows]
    return f"{provenance.software(around[0])}; commit {provenance.commits(around)}"


def _alike(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of any benchmark with the keys of a pipeline's row. compared: whether its pixels were compared."""
    share = row.get("write_share")
    ceiling = row.get("ceiling_images_per_s") or (
        row["images_per_s"] / share if share and row["images_per_s"] else None
    )
    missing = dict.fromkeys(("model", "recipe", "dtype", "max_abs_dev", "pixels_apart", "reason"))
    verified = row.get("verified", row.get("verified_pixels"))  # rows of the GPU check have the second key
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
    """Return the cells of median and range, in images/s. A row without a speed gets "none" and ""; its last column says
    why."""
    if not row["images_per_s"]:
        return [Cell("none", -1.0), Cell("")]
    return [
        Cell(f"{row['images_per_s']:,.0f}", row["images_per_s"]),
        Cell(f"{row['images_per_s_min']:,.0f}-{row['images_per_s_max']:,.0f}"),
    ]
