"""A result in Markdown, to be pasted into an issue: a paragraph, a table for each heat, and what limits the numbers.

It is made from rows alone. It has no path of the machine, and neither its name nor its user's.
"""

import getpass
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.show.markdown import escaped, table
from fastcifar.show.provenance import commits, gpu_text, processor, software
from fastcifar.show.text import counted
from fastcifar.system.atomic import require_writable, whole
from fastcifar.system.load import VARIABLES
from fastcifar.throughput.conclusion import caveats, conclusion
from fastcifar.throughput.contestant import REPLAY
from fastcifar.throughput.table import HeatTable, heats_of, named, phrase, reasons, shared

Row = Mapping[str, Any]
MARK = "<!-- made by fastcifar bench --share -->"
"""The first line of the file, which a reader of the issue does not see."""
PATH = re.compile(r"(?<![\w./-])(?:~|[A-Za-z]:)?(?:[\\/](?:[\w.@+ -]*[\w.@+-])?)+(?=[\\/'\":,;)\s]|$)")
"""A path from the root or the home folder. A name in it may have spaces, so that rather too much is hidden."""


def require_own(path: Path | None) -> None:
    """Raise UsageError unless a file can be made at ``path``, or one of `write` is replaced there; None is accepted."""
    require_writable(path, ".md", "a shared result is Markdown")
    if path is None or not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        if file.readline().strip() not in (MARK, ""):
            raise UsageError(
                f"{path} was not made by fastcifar bench --share, and is left as it is; name another file, such as "
                f"--share {path.with_stem(path.stem + '-bench')}"
            )


def write(rows: Sequence[Row], path: Path) -> None:
    """Write `markdown` to a file, whole or not at all. Raises as `require_own` does."""
    require_own(path)
    with whole(path) as file:
        file.write_text(markdown(rows), encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """Return the text for an issue. rows: as `rows.contests` returns them."""
    common = shared(rows)
    rows = [_shown(row) for row in rows]
    parts = [MARK, f"**{escaped(conclusion(rows))}.**", _measured(rows), f"    {' '.join(_command(rows).split())}"]
    for heat in heats_of(rows):
        columns = HeatTable(heat, "").columns()
        body = [[column.cells[number] for column in columns] for number in range(len(heat))]
        parts.append(f"{escaped(named(heat[0], common))}:\n\n{table([c.header for c in columns], body)}".rstrip())
    limits = [*reasons(rows), *caveats(rows)]
    if any(row["environment"].get("dirty") for row in rows):
        limits.append("The code was changed after its commit.")
    if limits:
        parts.append("\n".join(f"- {escaped(limit)}" for limit in limits))
    return "\n\n".join(parts) + "\n"


def _shown(row: Row) -> dict[str, Any]:
    """Return a row in which one's own loader is named without its folder, and texts as by `_hidden`."""
    name, reason = row["pipeline"], row["reason"]
    if _own(row):
        name = re.split(r"[\\/]", name)[-1]
        reason = reason and reason.replace(row["pipeline"], name)
    return {**row, "pipeline": _hidden(name), "reason": _hidden(reason)}


def _measured(rows: Sequence[Row]) -> str:
    """Return the paragraph on how the rows were measured: what was alike, the machine, the versions and the commit."""
    first, around = rows[0], [row["environment"] for row in rows]
    turns = max((row["repeats"] or 0 for row in rows), default=0)
    seconds = first.get("turn_seconds")
    length = f" of at least {seconds:g} s" if isinstance(seconds, int | float) else ""
    data = f", on {_hidden(str(first['dataset']))}" if first.get("dataset") else ""
    alike = phrase(shared(rows)) or "settings as below"
    gpus = f"{gpu_text(around[0])}; " if any(row["device"].startswith("cuda") for row in rows) else ""
    return escaped(
        f"The same images for all{data}; a process for each, in turns; {alike}. images/s: the median of "
        f"{counted(turns, 'turn')}{length}. pixels: compared with the reference in the same run. {gpus}"
        f"{processor(around[0])}; {around[0].get('os', 'an unknown system')}; {software(around[0])}; "
        f"{_openmp(around[0])}commit {commits(around)}."
    )


def _openmp(about: Mapping[str, Any]) -> str:
    """Return how OpenMP's threads were told to work, apart from their number."""
    set_ = about.get("threads") or {}
    shown = [f"{name}={_hidden(str(set_[name]))}" for name in sorted(set_) if name.startswith(VARIABLES)]
    return "".join(f"{text}; " for text in shown if not text.startswith("OMP_NUM_THREADS"))


def _command(rows: Sequence[Row]) -> str:
    """Return the command that measures the same work, without paths. It is made from the rows."""
    values = {
        "--pipelines": [row["pipeline"] for row in rows if not _own(row) and row["pipeline"] != REPLAY],
        "--batch-sizes": [str(row["batch_size"]) for row in rows],
        "--devices": [row["device"] for row in rows],
        "--dtypes": [row["dtype"] for row in rows],
        "--models": [row["model"] for row in rows if row["model"]],
        "--threads": [str(row["threads"]) for row in rows][:1],
        "--repeats": [str(row["repeats"]) for row in rows if row["repeats"]][:1],
        "--seconds": [f"{row['turn_seconds']:g}" for row in rows if row.get("turn_seconds")][:1],
    }
    parts = ["fastcifar bench", f"--recipes {_quoted(','.join(dict.fromkeys(row['recipe'] for row in rows)))}"]
    parts += [f"{option} {','.join(dict.fromkeys(found))}" for option, found in values.items() if found]
    parts += [] if str(rows[0].get("dataset") or "synthetic:").startswith("synthetic:") else ["--data DIRECTORY"]
    parts += [f"--loader {name}" for name in dict.fromkeys(row["pipeline"] for row in rows if _own(row))]
    return " ".join(parts)


def _own(row: Row) -> bool:
    """Return whether a contestant is one's own loader. Rows of before this was noted have only its name."""
    return bool(row.get("own", ".py:" in row["pipeline"]))


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[\w.,=:+-]*", text) else f"'{text}'"


def _hidden(text: Any) -> Any:
    """Return a text in which a path is its last name, and the names of user and machine are USER and HOST."""
    if not isinstance(text, str):
        return text
    text = PATH.sub(lambda match: re.split(r"[\\/]", match[0])[-1], text)
    names = {platform.node(): "HOST"}
    with suppress(OSError, KeyError):  # a user without a name
        names[getpass.getuser()] = "USER"
    for name, instead in names.items():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, text) if name else text
    return text
