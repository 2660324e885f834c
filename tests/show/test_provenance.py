"""Where numbers come from, as text, whatever an environment lacks."""

import pytest

from fastcifar.show.provenance import commit_text, commits, gpu_text, hardware, processor, software
from fastcifar.system.measure import environment


@pytest.mark.parametrize(
    ("name", "dirty", "shown"),
    [
        ("0123456789ab", False, "01234567"),
        ("0123456789ab", True, "01234567 with other changes"),
        (None, None, "unknown"),
    ],
)
def test_a_commit(name, dirty, shown):
    assert commit_text(name, dirty) == shown


def test_commits_are_named_once_each():
    around = [{"commit": "a" * 40}, {"commit": "a" * 40}, {"commit": "a" * 40, "dirty": True}, {}]
    assert commits(around) == "aaaaaaaa, aaaaaaaa with other changes, unknown"


def test_versions_of_everything_or_of_what_is_asked():
    around = {"python": "3.12", "versions": {"torch": "1", "ffcv": None}}
    assert software(around) == "Python 3.12, torch 1"
    assert software(around, ("torch", "ffcv")) == "Python 3.12, torch 1, ffcv None"
    assert software({}) == "Python ?"


def test_hardware_is_that_of_the_device():
    around = {"cpu": "C", "cores": 2, "gpus": [{"name": "NVIDIA X", "driver": "5"}, {"name": "NVIDIA X"}, "a GPU"]}
    assert gpu_text(around) == "NVIDIA X, a GPU"
    assert hardware(around, "cuda:1") == "NVIDIA X, a GPU"
    assert hardware(around, "cpu") == processor(around) == "C, 2 cores"
    assert hardware({}, "cuda") == "an unknown GPU"
    assert hardware({}, "cpu") == "an unknown processor, ? cores"


def test_this_machine_has_a_description():
    around = environment()
    assert processor(around).endswith(f", {around['cores']} cores")
    assert f"torch {around['versions']['torch']}" in software(around)
