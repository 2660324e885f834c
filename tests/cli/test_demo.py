"""``fastcifar demo``: results, a picture, and what to type next."""

import re

import pytest
import torch

from fastcifar.cli import demo
from fastcifar.data.convert import convert
from fastcifar.errors import UsageError
from fastcifar.runs.directory import find_runs


@pytest.mark.whole
def test_demo_shows_results_a_picture_and_what_to_type_next(command, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "EPOCHS", 2)
    monkeypatch.setattr("fastcifar.data.formats.extra_formats", only_dali)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    converted = []
    monkeypatch.setattr(
        "fastcifar.data.convert.convert",
        lambda source, folder, formats, **more: converted.append(formats) or convert(source, folder, **more),
    )
    answer = command("demo", tmp_path / "demo")
    assert answer.code == 0
    assert converted == [["raw", "dali"]]
    notes = answer.err.splitlines()
    assert notes[0] == "going on without the ffcv form: no compiler here"
    assert re.fullmatch(r"digits.* in raw, dali; training 3 seeds, 2 epochs, cpu, (bfloat16|float32)", notes[1])
    assert len(notes) == 2
    assert re.search(r"cnn-basic-b128-lr0.001-l2_0-d0.5-sound .* 3 .* ± ", answer.out)
    assert f"picture: {tmp_path / 'demo' / 'curves.png'}" in answer.out
    assert (tmp_path / "demo" / "curves.png").exists()
    assert "fastcifar convert cifar-10.zip data/cifar10\n" in answer.out
    assert len(find_runs(tmp_path / "demo" / "runs")) == 3
    assert command("demo", tmp_path / "demo").code == 0  # again, over what is there


def only_dali(names):
    if "ffcv" in names:
        raise UsageError("no compiler here")
    return {}
