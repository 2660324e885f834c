"""The evaluations of `batchnorm.Experiment` as a picture: by epochs, as training curves are, and between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fastcifar.diagnose.batchnorm import Evaluation
from fastcifar.report.curves import COLOURS


def draw(evaluations: Sequence[Evaluation], title: str, path: Path) -> None:
    """Write a PNG of losses, accuracies and how far the statistics moved, a colour an arm."""
    figure = Figure(figsize=(10, 6.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    (losses, accuracies), (steps, moved) = figure.subplots(2, 2)
    arms = dict.fromkeys(evaluation.arm for evaluation in evaluations)
    for name, colour in zip(arms, COLOURS * len(arms), strict=False):
        found = [evaluation for evaluation in evaluations if evaluation.arm == name]
        ends = [
            now for now, after in zip(found, [*found[1:], None], strict=True) if not after or after.epoch > now.epoch
        ]
        epochs = [evaluation.epoch for evaluation in ends]
        for axes, key, scale in ((losses, "loss", 1), (accuracies, "accuracy", 100)):
            axes.plot(epochs, [scale * getattr(end, key) for end in ends], color=colour, marker=".", label=name)
            restored = [scale * getattr(end, f"restored_{key}") for end in ends]
            axes.plot(epochs, restored, color=colour, ls=":", lw=2, label="_")
        _by_step(steps, found, "loss", color=colour)
        _by_step(steps, found, "restored_loss", color=colour, ls=":", lw=2)
        _by_step(moved, found, "moved", color=colour)
        _by_step(moved, found, "moved_most", color=colour, ls="--", lw=1)
    several = max(1, sum(evaluation.epoch == 1 for evaluation in evaluations) // len(arms))
    losses.set(title="validation loss at the ends of epochs", xlabel="epoch (0: the untrained head)")
    accuracies.set(title="validation accuracy, %", xlabel="epoch")
    steps.set(
        title=f"validation loss after each of an epoch's last {several} steps", xlabel="epoch, its last steps alone"
    )
    moved.set(
        title="running means from the initial ones, standard deviations", xlabel="median layer; dashed: the largest"
    )
    for axes in (losses, accuracies, steps, moved):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    dotted = Line2D([], [], color="0.3", ls=":", lw=2, label="same head, initial statistics put back")
    figure.legend(handles=[*losses.get_lines()[::2], dotted], loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _by_step(axes: Axes, found: Sequence[Evaluation], key: str, **style: Any) -> None:
    """A line for each epoch's last steps, about the epoch's number."""
    for epoch in sorted({evaluation.epoch for evaluation in found} - {0}):
        values = [getattr(evaluation, key) for evaluation in found if evaluation.epoch == epoch]
        axes.plot(epoch + np.linspace(-0.45, 0.45, len(values)), values, **style)
