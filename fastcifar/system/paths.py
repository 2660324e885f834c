"""Paths that people give: a leading ~ stands for a home folder, wherever a path enters the program."""

import os
from os import PathLike
from pathlib import Path

from fastcifar.errors import UsageError


def path_of(given: "str | PathLike[str]") -> Path:
    """Return a path, with a leading ``~`` or ``~NAME`` replaced by the home folder of this or of that user.

    A shell replaces ``~`` only at the start of a word, so ``--out=~/runs``, a configuration file and a Python string
    still have it. A file whose own name begins with ``~`` is given as ``./~NAME``; its path is returned absolute, so
    that a path that has been through this function stays the same in a second call. Raises UsageError where there is
    no such home folder.
    """
    text = os.fspath(given)
    path = Path(text)
    if not str(path).startswith("~"):
        return path
    if not text.startswith("~"):  # ./~name
        return Path.cwd() / path
    home = os.path.expanduser(text)
    if home.startswith("~"):
        raise UsageError(
            f"path {text!r} begins with the home folder of a user who does not exist; write the folder's full path, or "
            f"./{text} for a file of this name"
        )
    return Path(home)
