"""The two kinds of error a person can meet; everything else is a bug and keeps its traceback."""


class FastcifarError(Exception):
    """Something failed that the user should read about: the thing, its value, the bound and the cure."""

    exit_code = 1


class UsageError(FastcifarError):
    """The command or call was not one we can carry out as written."""

    exit_code = 2


class DoesNotFit(UsageError):
    """What was asked for takes more memory than there is. Less of it may fit: whoever can ask for less catches this."""
