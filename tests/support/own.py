"""Modules with one's own networks, in the current directory."""

import sys

import pytest

SMALL = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=4)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(8 * 64, classes)

    def forward(self, images):
        return self.last(self.dropout(self.first(images).relu().flatten(1)))


def small(classes):
    return Small(classes)


def normed(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, classes))
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a module of the current directory, which is temporary."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def written(name, source=SMALL):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
        return path

    yield written
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]  # a folder alone has no file
        if any(str(place).startswith(str(tmp_path)) for place in places):
            del sys.modules[name]
