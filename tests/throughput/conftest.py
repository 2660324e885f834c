"""Pipelines that lie or fail, and the processes that contestants are given."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastcifar
from fastcifar.throughput import process

FAKE = '''
import os, time
import torch
from fastcifar.errors import FastcifarError
from fastcifar.pipeline import Pipeline, open_pipeline

class Fake(Pipeline):
    """resident's batches, spoilt as the form says."""
    forms = ("pixels", "labels", "near", "stock", "raises", "crashes", "hangs", "limits")

    def __init__(self, request, form=""):
        super().__init__(request, form)
        if form == "hangs":
            time.sleep(600)
        if form == "limits":
            counts = os.environ["OMP_NUM_THREADS"], torch.get_num_threads(), len(os.sched_getaffinity(0))
            raise FastcifarError(f"threads {counts}")
        self.differs = {"near": "one pixel in a thousand", "stock": "dice of its own"}.get(form, "")
        self.honest = open_pipeline("resident", request.dataset, augment=request.augment,
                                    batch_size=request.batch_size, seed=request.seed, dtype=request.dtype)

    def epoch(self, k):
        print("a library that chatters")
        for n, batch in enumerate(self.honest.epoch(k)):
            images, labels, ids = (part.clone(memory_format=torch.preserve_format) for part in batch)
            if self.form == "pixels":
                images[3, 0, 0, 0] += 1e-4
            elif self.form == "near":
                images[3, 0, 0, 0] += 0.5
            elif self.form == "stock":
                images += 0.1
            elif self.form == "labels" and n == 1:
                labels[0] = (labels[0] + 1) % 10
            elif self.form == "raises" and n == 1:
                raise ValueError("the third image is missing")
            elif self.form == "crashes" and n == 1:
                os.abort()
            yield type(batch)(images, labels, ids)

    def close(self):
        self.honest.close()

PIPELINE = Fake
'''


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipelines fake:FORM, found by name here and in the contestants' processes."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "fake.py").write_text(FAKE)
    monkeypatch.setattr(fastcifar, "__path__", [*fastcifar.__path__, str(tmp_path)])
    start = f"import fastcifar; fastcifar.__path__.append({str(tmp_path)!r}); import fastcifar.throughput.child as c; "
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-c", start + "c.main()"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the processes that contestants were given."""
    pids: list[int] = []
    popen = subprocess.Popen

    def noting(*arguments: Any, **keywords: Any) -> "subprocess.Popen[bytes]":
        started = popen(*arguments, **keywords)
        if keywords.get("start_new_session"):  # not git, which the environment is asked of
            pids.append(started.pid)
        return started

    monkeypatch.setattr(process.subprocess, "Popen", noting)
    return pids
