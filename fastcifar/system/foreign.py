"""Code of other people: modules imported by name or by file, with errors that say what to repair."""

import difflib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fastcifar.errors import UsageError
from fastcifar.system import machine
from fastcifar.system.paths import path_of

STANDARD_LIBRARY = sysconfig.get_path("stdlib")


class NoSuchModule(UsageError):
    """Neither the current directory nor the installed packages have the module."""


def imported(name: str, what: str) -> ModuleType:
    """Import a module by its full name, or by its file ``FILE.py``, and return it.

    A name is looked for in the current directory first, as ``python -m`` does. The folder stays on ``sys.path``, so
    that worker processes find the module, too. what: the thing that needs the module, for messages, such as "pipeline
    'mine'". Raises NoSuchModule for a module that does not exist, and UsageError for a file that does not exist or an
    import that fails.
    """
    return _of_file(path_of(name), what) if name.endswith(".py") else _of_name(name, Path.cwd(), what)


def exists(name: str) -> bool:
    """Return whether a module or file can be looked for as `imported` does. No module is imported for this, so a module
    within a package counts where its package exists.
    """
    if name.endswith(".py"):
        return path_of(name).is_file()
    top = name.partition(".")[0]
    here = Path(f"{top}.py").is_file() or Path(top).is_dir()
    return top.isidentifier() and (here or importlib.util.find_spec(top) is not None)


def require(name: str, what: str) -> None:
    """Raise the errors of `imported` for a module or file that does not exist, without importing anything."""
    if name.endswith(".py"):
        _require_file(path_of(name), what)
    elif name not in sys.modules and not exists(name):
        raise _no_module(name, what)


def said(error: BaseException) -> str:
    """Return an error's type and the line of its message that says most.

    A worker process of torch's DataLoader puts its traceback into the message; the last line is then its own error.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and any(line.startswith("Original Traceback") for line in lines):
        return f"{lines[-1]} (in a worker process)"
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def place_of(error: BaseException) -> str:
    """Return ", FILE line N" for the innermost frame of an error in code that is not installed, or ""."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        installed = {"site-packages", "dist-packages"} & set(path.parts) or path.is_relative_to(STANDARD_LIBRARY)
        if path.is_file() and not installed and not path.is_relative_to(machine.PACKAGE):
            return f", {path.name} line {frame.lineno}"
    return ""


def nearest(wanted: str, names: list[str]) -> str:
    """Return a hint about names: the nearest one, or all of them."""
    near = difflib.get_close_matches(wanted, names, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'}"


def public(module: ModuleType, condition: Callable[[Any], bool]) -> list[str]:
    """Return the names of a module, without a leading underscore, whose values meet a condition."""
    return [name for name, value in vars(module).items() if not name.startswith("_") and condition(value)]


def _require_file(path: Path, what: str) -> None:
    if not path.is_file():
        folder = path.absolute().parent
        here = sorted(file.name for file in folder.glob("*.py")) if folder.is_dir() else []
        raise UsageError(f"{what}: there is no file {path}; {nearest(path.name, here)}")


def _no_module(name: str, what: str) -> NoSuchModule:
    return NoSuchModule(f"{what}: there is no module {name} in the current directory or among the installed packages")


def _of_file(path: Path, what: str) -> ModuleType:
    _require_file(path, what)
    module = _of_name(path.stem, path.absolute().parent, what)
    if Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        raise UsageError(f"{what}: {path.name} has the name of another module, {path.stem}; rename the file")
    return module


def _of_name(name: str, folder: Path, what: str) -> ModuleType:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # the file may be new
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not f"{name}.".startswith(f"{missing}."):
            raise UsageError(f"{what}: {name} imports {missing}, which is not installed; install it") from error
        raise _no_module(name, what) from error
    except (Exception, SystemExit) as error:  # foreign code raises errors of any kind
        raise UsageError(f"{what}: the import of {name} raises {said(error)}{place_of(error)}; repair it") from error
