"""The names of the pipelines: ours, which are files in ``pipelines/``, and those of installed packages.

This module does not import torch, so that a command can refuse a name, and list the pipelines, at once.
"""

import importlib
import pkgutil
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from fastcifar.errors import UsageError, unknown
from fastcifar.system import foreign, probes

GROUP = "fastcifar.pipelines"
"""The group of entry points with which a package brings pipelines: NAME = "package.module:Class"."""


def ours() -> list[str]:
    """Return the names of fastcifar's own pipelines, without forms, sorted."""
    package = importlib.import_module("fastcifar.pipelines")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def installed() -> dict[str, list[EntryPoint]]:
    """Return the entry points of the group GROUP by name."""
    return _entry_points(tuple(sys.path))


@cache
def _entry_points(_path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def check_pipeline(name: str) -> None:
    """Raise UsageError for a pipeline that does not exist. One of ours without a form is not imported for this."""
    own, others, plain = ours(), installed(), name.partition(":")[0]
    if plain not in own and plain not in others and not foreign.exists(plain):
        raise no_such(name)
    if name not in own or name in others:
        from fastcifar.pipeline.finding import find_pipeline

        find_pipeline(name)


def names() -> list[str]:
    """Return the names of all pipelines without forms, sorted."""
    return sorted({*ours(), *installed()})


def no_such(name: str) -> UsageError:
    """Return the error for a pipeline that does not exist."""
    return UsageError(f"{unknown('pipeline', name, names())}, and package.module for your own; there is no such module")


def kept_available() -> dict[str, str | None]:
    """Return the answer of `finding.available`, kept until the installed packages or the pipelines' files change."""
    package = importlib.import_module("fastcifar.pipelines")

    def ask() -> dict[str, str | None]:
        from fastcifar.pipeline.finding import available

        return available()

    return probes.kept("pipelines", ask, _is_answer, [path for each in package.__path__ for path in probes.files(each)])


def _is_answer(kept: object) -> bool:
    return isinstance(kept, dict) and all(reason is None or isinstance(reason, str) for reason in kept.values())
