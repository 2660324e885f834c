"""Whether the code of one's own network has changed since an earlier run."""

from dataclasses import asdict
from glob import escape
from pathlib import Path

from fastcifar.models.names import is_own
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.spec import RunSpec


def changed_since(spec: RunSpec, out: Path) -> str | None:
    """Return a sentence that names an earlier run which differs from a new one in its code only; None without one."""
    new = RunDirectory.of(spec, out)
    if not is_own(spec.model) or new.path.exists():
        return None
    for path in sorted(new.path.parent.glob(f"{escape(spec.label)}-s{spec.seed}-*")):
        stated = RunDirectory(path).begun().get("spec", {})
        if {**stated, "code": spec.code} == asdict(spec):
            return f"the code of {spec.model} has changed since {path.name}, which stays as it is; a new run begins"
    return None
