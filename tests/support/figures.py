"""The figures that a test has had drawn."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is made from here on, in order."""
    made = []

    class Kept(Figure):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr("fastcifar.show.figures.Figure", Kept)
    return made
