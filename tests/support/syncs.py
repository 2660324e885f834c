"""torch's mode that reports (warn) or refuses (error) what makes the host wait for a CUDA device."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def watched_syncs(mode: str) -> Iterator[list[str]]:
    """Within it, waits are errors, or, with the mode "warn", added to the list that it gives. The mode is always reset.

    Once a process, torch warns that the mode is a prototype. That is no wait, and must neither be counted nor, where
    warnings are errors, keep the mode from being reset.
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
