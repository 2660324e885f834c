"""The files that steps write: they grow while a step runs, and are cleaned up when it has ended.

A text file has a part for each attempt of a step, which begins with a line ``== STEP: ``. A line of a JSON lines file
has the key "step".
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

LOG_BYTES = 1 << 20  # bytes kept of a step's log or profile: half from its start, half from its end
TAIL_LINES, TAIL_BYTES = 15, 2000  # limits of a failed step's log in the summary
PART = ".part"  # suffix of a file while it is being written
HEADER = re.compile(rb"^(?=== [a-z]+: )", re.MULTILINE)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def keep_latest(path: Path, step: str, start: int) -> None:
    """Remove the parts that a step wrote to a file before byte ``start``, if it has written any since.

    The middle of a long new part and incomplete lines of JSON are removed, too.
    """
    if not path.exists():
        return
    data = path.read_bytes()
    before, since = list(_parts(path, data[:start])), list(_parts(path, data[start:]))
    if any(owner == step for owner, _ in since):
        before = [(owner, part) for owner, part in before if owner != step]
    new = b"".join(part for _, part in since)
    kept = b"".join(part for _, part in before) + (new if path.suffix == ".jsonl" else _ends(new))
    if kept != data:
        put(path, kept)


def _parts(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the parts of a file, each with the name of its step."""
    if path.suffix == ".jsonl":
        for line in data.splitlines(keepends=True):
            with suppress(ValueError, AttributeError):
                yield str(json.loads(line).get("step")), line
        return
    for part in HEADER.split(data):
        yield part[3 : part.find(b":")].decode() if HEADER.match(part) else "", part


def _ends(text: bytes) -> bytes:
    """Return a text as it is, or its beginning and its end if the text is longer than LOG_BYTES."""
    if len(text) <= LOG_BYTES:
        return text
    half = LOG_BYTES // 2
    return text[:half] + f"\n... {len(text) - 2 * half} bytes are left out ...\n".encode() + text[-half:]


def tail(log: Path, step: str) -> list[str]:
    text = b"".join(part for owner, part in _parts(log, log.read_bytes()) if owner == step)
    lines = [line for line in text[-TAIL_BYTES:].decode(errors="replace").splitlines() if line.strip()]
    return lines[-TAIL_LINES:]


def put(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    part = path.with_name(f"{path.name}{PART}")
    part.write_bytes(data)
    part.replace(path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a JSON lines file; an empty list where there is no file."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with suppress(ValueError):  # the process was killed while it wrote this line
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]
