"""The origin of numbers as text: the commit, the versions, the processor or the GPU.

An environment is the mapping that `measure.environment` returns for rows and runs. A missing key is shown as unknown.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

DIGITS = 8  # digits of a commit that are shown by default


class Gpu(TypedDict):
    """A GPU of an environment."""

    name: str


class Environment(TypedDict, total=False):
    """The entries of an environment that are shown."""

    cpu: str
    cores: int
    os: str
    python: str
    versions: dict[str, Any]
    threads: dict[str, Any]
    gpus: list[Gpu | str]
    commit: str | None
    dirty: bool | None


def commit_text(name: object, dirty: object, digits: int = DIGITS) -> str:
    """Return the first digits of a commit and whether files differed from it; "unknown" for None or an empty name."""
    return str(name or "unknown")[:digits] + (" with other changes" if dirty else "")


def commits(environments: Iterable[Mapping[str, Any]]) -> str:
    """Return the distinct commits of the environments, in the order of their first appearance."""
    return ", ".join(dict.fromkeys(commit_text(about.get("commit"), about.get("dirty")) for about in environments))


def software(about: Mapping[str, Any], packages: Iterable[str] | None = None) -> str:
    """Return the versions of Python and of ``packages``; None selects every package that has a version."""
    versions = about.get("versions", {})
    named = [name for name, version in versions.items() if version] if packages is None else packages
    shown = [f"Python {about.get('python', '?')}", *(f"{name} {versions.get(name)}" for name in named)]
    return ", ".join(shown)


def processor(about: Mapping[str, Any]) -> str:
    """Return the processor's name and the number of usable cores."""
    return f"{about.get('cpu', 'an unknown processor')}, {about.get('cores', '?')} cores"


def gpu_text(about: Mapping[str, Any]) -> str:
    """Return the names of the GPUs, each once; empty if there are none."""
    devices = about.get("gpus") or []
    return ", ".join(dict.fromkeys(str(gpu["name"] if isinstance(gpu, Mapping) else gpu) for gpu in devices))


def hardware(about: Mapping[str, Any], device: object) -> str:
    """Return the hardware behind ``device`` (cpu, cuda, cuda:1): the GPUs, or the processor."""
    if str(device).startswith("cuda"):
        return gpu_text(about) or "an unknown GPU"
    return processor(about)
