"""The result of a check, and the process in which a library is imported.

Each library is imported in a separate process, since a broken library may abort the process instead of raising.
"""

import signal
import subprocess
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    name: the part that was checked. ok: whether it works. detail: its version or state, or the reason of the failure.
    cure: the step that repairs it; empty if ok. required: False for a part that fastcifar can run without; the cure
    then says what is lost.
    """

    name: str
    ok: bool
    detail: str
    cure: str = ""
    required: bool = False


def finding(name: str, ok: bool, detail: str, cure: str, *, required: bool = False) -> Finding:
    """Return a finding, without the cure where it is ok."""
    return Finding(name, ok, detail, "" if ok else cure, required)


def probe(code: str, timeout: float = 120.0) -> tuple[bool, str]:
    """Run Python code in a new process; return whether it succeeded, and its output or the reason of its failure.

    timeout: in seconds. The reason is the last line of the error, or the signal that ended the process.
    """
    try:
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return False, f"no answer in {timeout:g} s"
    if ran.returncode == 0:
        return True, ran.stdout.strip()
    if ran.returncode < 0:
        return False, f"the process was ended by {signal.Signals(-ran.returncode).name}"
    lines = ran.stderr.strip().splitlines()
    return False, lines[-1] if lines else f"exit status {ran.returncode}"


def library(name: str, module: str, cure: str, *, required: bool = False, shown: str = "module.__version__") -> Finding:
    """Import a module in a new process. shown: the Python expression whose value is the detail."""
    ok, detail = probe(f"import importlib; module = importlib.import_module({module!r}); print({shown})")
    return finding(name, ok, detail, cure, required=required)
