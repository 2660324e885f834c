"""The mode in which waits for a device are found: it is reset whatever happens, and torch's own warning is no wait."""

import warnings

import pytest
import torch

from support.syncs import watched_syncs

ONCE = "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing operations"


@pytest.fixture
def modes(monkeypatch):
    """The modes that were set. As torch, the first time, and only then, warn."""
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
