"""Answers about the installed software that take seconds to find, kept in a cache folder of the user.

An answer is kept for one Python with its installed packages. When a package is installed, removed or updated, or a file
that the answer depends on changes, the question is asked again.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from fastcifar.system.atomic import write_whole
from fastcifar.system.caches import own_folder
from fastcifar.system.schema import Invalid, parse

T = TypeVar("T")


def kept(name: str, ask: Callable[[], T], valid: Callable[[Any], bool], depends: Iterable[Path] = ()) -> T:
    """Return the kept answer to a question, or ask and keep the answer where the folder can be written.

    name: the name of the question. ask: it returns the answer, of JSON's types. valid: whether a parsed file is an
    answer. depends: files whose change makes the answer old.
    """
    key, stored = _installed(depends), load_cache(name)
    if stored.get("key") == key and valid(stored.get("answer")):
        return stored["answer"]  # type: ignore[no-any-return]
    answer = ask()
    store_cache(name, {"key": key, "answer": answer})
    return answer


def load_cache(name: str) -> dict[str, Any]:
    """Return the JSON object of a file of the cache; empty where there is none, or where the file is damaged."""
    try:
        stored: dict[str, Any] = parse((own_folder() / f"{name}.json").read_bytes(), dict[str, Any])
    except (OSError, Invalid):
        return {}
    return stored


def store_cache(name: str, content: dict[str, Any]) -> None:
    """Replace a file of the cache. Where the folder cannot be written, nothing is kept."""
    file = own_folder() / f"{name}.json"
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(content, indent=1).encode())


def files(folder: str | Path) -> list[Path]:
    """Return the Python files below a folder, sorted."""
    return sorted(Path(folder).rglob("*.py"))


def _installed(depends: Iterable[Path]) -> str:
    """Return a hash of the Python, the names of the installed packages with their versions, and the times of files.

    The metadata folder of an installed package has its name and version in its name (PyPA, "Recording installed
    projects").
    """
    facts = [sys.executable, sys.version]
    with suppress(OSError):  # the table of shared libraries, which changes when a system package is installed
        facts.append(f"ld.so {Path('/etc/ld.so.cache').stat().st_mtime_ns}")
    for place in sys.path:
        with suppress(OSError):
            names = os.listdir(place or ".")
            facts += [place, *sorted(name for name in names if name.endswith((".dist-info", ".pth")))]
    facts += [f"{path} {path.stat().st_mtime_ns}" for path in depends]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
