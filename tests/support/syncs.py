"""torch's mode that reports (warn) or forbids (error) operations which make the host wait for a CUDA device."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def watched_syncs(mode: str) -> Iterator[list[str]]:
    """Set torch's synchronisation debug mode within this context, and always reset it. Yields the list of waits.

    With the mode "error", a wait raises; with "warn", its message is appended to the list. Once a process, torch warns
    that the mode is a prototype. This warning is not a wait: it must not be counted, and where warnings are errors it
    must not keep the mode from being reset.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode("default")
    waits: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode(mode)
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
            waits += [str(warning.message) for warning in caught if "synchroniz" in str(warning.message)]
