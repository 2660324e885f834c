"""Folders for what is slow to make and is made again where it is lost: compiled kernels, answers, lists of fonts.

A container may have no home folder, or one that cannot be written. A private folder in the directory of temporary files
(TMPDIR) then takes its place.
"""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fastcifar.system import machine
from fastcifar.system.once import tell

NUMBA = "NUMBA_CACHE_DIR"


def home() -> Path | None:
    """Return the home folder; None where HOME is not set and the system does not know the user."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def user_folder() -> Path | None:
    """Return the folder of the user's caches, XDG_CACHE_HOME or ~/.cache. It need not exist."""
    chosen, at_home = os.environ.get("XDG_CACHE_HOME"), home()
    return Path(chosen) if chosen else at_home and at_home / ".cache"


def own_folder() -> Path:
    """Return the folder of fastcifar's own cache, ``fastcifar`` in `user_folder` or in `temporary`. It need not exist.

    Where neither can be used, this is a path at which nothing can be written.
    """
    folder = user_folder()
    if folder is None or refusal(folder):
        folder = temporary() or folder
    return (folder or Path(os.devnull)) / "fastcifar"


def temporary() -> Path | None:
    """Return this user's private folder in the directory of temporary files, and make it; None where it is not private.

    Its name is the same for all processes of the user. Nobody else may write to it, since libraries unpickle what they
    find in their caches.
    """
    with suppress(OSError):
        folder = Path(tempfile.gettempdir(), f"fastcifar-cache-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return None if refusal(folder) else folder
    return None


def refusal(folder: Path) -> str:
    """Return why no file can be made in a folder or its nearest existing parent; empty if one can."""
    try:
        with tempfile.TemporaryFile(dir=next(part for part in [folder, *folder.parents] if part.exists())):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def numba_folders() -> list[Path]:
    """Return the folders that numba tries for compiled kernels, in its order, without those of `temporary`."""
    kernels = [machine.PACKAGE / "kernels", machine.CHECKOUT / "kernels"]  # installed, or in a checkout
    beside = next(folder for folder in kernels if folder.is_dir()) / "cpu" / "__pycache__"
    chosen, user = os.environ.get(NUMBA), user_folder()
    return [*([Path(chosen)] if chosen else []), beside, *([user / "numba"] if user else [])]


def tell_of_numba(say: Callable[[str], None]) -> None:
    """Say where compiled kernels go if numba can write to none of its folders, once for a process and its children.

    A command that compiles nothing does not call this. A command whose children compile calls it before it starts them.
    say: a callback for the message to the user.
    """
    refusals = {folder: refusal(folder) for folder in numba_folders()}
    if all(refusals.values()):
        folder = temporary()
        kept = f"are kept in {folder}" if folder else "are kept nowhere, so that each process compiles them again"
        tried = "; ".join(f"{folder}: {reason}" for folder, reason in refusals.items())
        text = f"compiled kernels {kept}, as numba can write to none of its folders ({tried})"
        tell("numba", f"{text}; set {NUMBA} to a folder of yours", say)


def choose() -> None:
    """Set the cache folders of matplotlib and Triton to a private temporary one, where they cannot write to their own.

    Otherwise matplotlib would make a new folder in each process and warn about it. Without a home folder, Triton would
    make one that is called ``~``. A variable that the user has set stays. The variables hold for this process and its
    children, so a command calls this, and a library must not.
    """
    at_home, user, chosen = home(), user_folder(), os.environ.get("XDG_CONFIG_HOME")
    config = Path(chosen) if chosen else at_home and at_home / ".config"
    _replace("MPLCONFIGDIR", "matplotlib", config and config / "matplotlib", user and user / "matplotlib")
    if "TRITON_HOME" not in os.environ:
        _replace("TRITON_CACHE_DIR", "triton", at_home and at_home / ".triton")


def _replace(variable: str, name: str, *folders: Path | None) -> None:
    """Set an environment variable to a temporary folder, where it is not set and one of the folders is not usable."""
    if variable not in os.environ and any(folder is None or refusal(folder) for folder in folders):
        instead = temporary()
        if instead:
            os.environ[variable] = str(instead / name)
