"""The errors that a user can see without a traceback. Any other exception is a bug and keeps its traceback."""

import difflib
from collections.abc import Iterable


class FastcifarError(Exception):
    """An operation failed. The message names the thing, its value, the bound and the cure."""

    exit_code = 1


class UsageError(FastcifarError):
    """The command or call cannot be carried out as it was written."""

    exit_code = 2


class DoesNotFit(UsageError):
    """A request needs more memory than is free. A caller that can make a smaller request catches this error."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def unknown(what: str, name: object, known: Iterable[str]) -> UsageError:
    """Return the error for a name that does not exist. Its message has the nearest known name, and all known names."""
    names = list(known)
    folded = {each.casefold(): each for each in map(str, names)}
    near = difflib.get_close_matches(str(name).casefold(), folded, 1)
    hint = f"did you mean {folded[near[0]]!r}? There are" if near else "there are"
    return UsageError(f"{what} {name!r} does not exist; {hint} {', '.join(map(str, names))}")
