"""The text of --device, and torchrun's variables."""

import pytest

from fastcifar.errors import UsageError
from fastcifar.system.launch import check_device, leads, processes


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_s_name(name):
    check_device(name)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1:2", "CPU", "cpu:0", "mps", "cuda\n"])
def test_another_name_is_refused(name):
    with pytest.raises(UsageError, match="is not one of auto, cpu, cuda, cuda:N; choose one of them"):
        check_device(name)


def test_without_torchrun_there_is_one_process_which_leads(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (processes(), leads()) == (1, True)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert (processes(), leads()) == (4, False)
