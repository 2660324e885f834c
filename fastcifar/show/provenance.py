"""Where numbers come from, as text: the commit, the versions, the processor or the GPU.

An environment is the mapping that `measure.environment` writes into rows and runs. A key that it lacks is shown as
unknown.
"""

from collections.abc import Iterable, Mapping
from typing import Any

DIGITS = 8  # of a commit, where nothing else is asked for


def commit(name: object, dirty: object, digits: int = DIGITS) -> str:
    """The first digits of a commit, and whether the files differed from it; "unknown" for None or an empty name."""
    return str(name or "unknown")[:digits] + (" with other changes" if dirty else "")


def commits(environments: Iterable[Mapping[str, Any]]) -> str:
    """The different commits of the environments, in the order of their first appearance."""
    return ", ".join(dict.fromkeys(commit(about.get("commit"), about.get("dirty")) for about in environments))


def software(about: Mapping[str, Any], packages: Iterable[str] | None = None) -> str:
    """Python's version and those of ``packages``; None stands for every package that has a version."""
    versions = about.get("versions", {})
    named = [name for name, version in versions.items() if version] if packages is None else packages
    shown = [f"Python {about.get('python', '?')}", *(f"{name} {versions.get(name)}" for name in named)]
    return ", ".join(shown)


def processor(about: Mapping[str, Any]) -> str:
    """The processor's name and the number of cores that could be used."""
    return f"{about.get('cpu', 'an unknown processor')}, {about.get('cores', '?')} cores"


def gpus(about: Mapping[str, Any]) -> str:
    """The names of the GPUs, each once; empty where there are none."""
    found = about.get("gpus") or []
    return ", ".join(dict.fromkeys(str(gpu["name"] if isinstance(gpu, Mapping) else gpu) for gpu in found))


def hardware(about: Mapping[str, Any], device: object) -> str:
    """What a number of ``device`` (cpu, cuda, cuda:1) was computed by: the GPUs, or the processor."""
    if str(device).startswith("cuda"):
        return gpus(about) or "an unknown GPU"
    return processor(about)
