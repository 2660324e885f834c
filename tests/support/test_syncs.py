"""The mode that finds waits for a device is always reset, and torch's warning about the mode is not a wait."""

import warnings

import pytest
import torch

from support.syncs import watched_syncs

ONCE = "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing operations"


@pytest.fixture
def modes(monkeypatch):
    """Return the modes that were set. The first call warns, like torch."""
    told = []

    def set_mode(mode):
        told.append(mode)
        if len(told) == 1:
            warnings.warn(ONCE, UserWarning, stacklevel=2)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    return told


def test_torch_s_warning_about_the_mode_is_no_wait(modes):
    with watched_syncs("warn") as waits:
        warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert waits == ["called a synchronizing CUDA operation"]
    assert modes[-2:] == ["warn", "default"]


def test_the_mode_is_reset_after_an_error(modes):
    with pytest.raises(RuntimeError, match="a wait"), watched_syncs("error"):
        raise RuntimeError("a wait")
    assert modes[-2:] == ["error", "default"]
