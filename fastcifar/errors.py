"""The errors that a user can see without a traceback. Any other exception is a bug and keeps its traceback."""


class FastcifarError(Exception):
    """An operation failed. The message names the thing, its value, the bound and the cure."""

    exit_code = 1


class UsageError(FastcifarError):
    """The command or call cannot be carried out as it was written."""

    exit_code = 2


class DoesNotFit(UsageError):
    """A request needs more memory than is free. A caller that can make a smaller request catches this error."""
