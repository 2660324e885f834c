"""Whether the code of one's own network has changed since an earlier run."""

from dataclasses import asdict
from pathlib import Path

from fastcifar.models.names import is_own
from fastcifar.runs.directory import alike
from fastcifar.runs.spec import RunSpec


def changed_since(spec: RunSpec, out: Path) -> str | None:
    """Return a sentence that names an earlier run which differs from a new one in its code only; None without one."""
    for directory in alike(spec, out) if is_own(spec.model) else ():
        stated = directory.begun().get("spec", {})
        if {**stated, "code": spec.code} == asdict(spec):
            name = directory.path.name
            return f"the code of {spec.model} has changed since {name}, which stays as it is; a new run begins"
    return None
