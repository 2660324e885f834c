"""A picture of the evaluations of `BatchNormExperiment`: curves over the epochs, and over the last steps of each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fastcifar.diagnose.batchnorm import Evaluation
from fastcifar.show.figures import axes_grid, colour, plain_axes, write_figure

RESTORED = "the same heads, initial statistics put back"


def draw_diagnosis(evaluations: Sequence[Evaluation], title: str, path: Path) -> None:
    """Write a PNG of the losses, the accuracies and the drift of the statistics. Each arm has its own colour.

    Raises as `show.figures.write_figure` does.
    """
    figure, (losses, accuracies, steps, moved) = axes_grid(10, 6.5, 2, 2)
    arms = dict.fromkeys(evaluation.arm for evaluation in evaluations)
    for place, name in enumerate(arms):
        of_arm = [evaluation for evaluation in evaluations if evaluation.arm == name]
        ends = list({evaluation.epoch: evaluation for evaluation in of_arm}.values())  # the last of each epoch stays
        style: dict[str, Any] = {"color": colour(place), "label": name}
        _line(losses, ends, "loss", **style, marker=".")
        _line(accuracies, ends, "accuracy", **style, marker=".")
        _by_step(steps, of_arm, "loss", **style)
        _by_step(moved, of_arm, "moved", **style)
        _by_step(moved, of_arm, "moved_most", **style, ls="--", lw=1)
        if any(evaluation.moved_most for evaluation in of_arm):  # without drift the lines coincide
            # shifted dashes, since arms with equal heads have equal lines
            style |= {"ls": (3 * place, (1.5, 3 * len(arms) - 1.5)), "lw": 2, "label": f"{name}: {RESTORED}"}
            _line(losses, ends, "restored_loss", **style)
            _line(accuracies, ends, "restored_accuracy", **style)
            _by_step(steps, of_arm, "restored_loss", **style)
    losses.set_title("validation loss at the ends of epochs")
    accuracies.set_title("validation accuracy, %")
    steps.set_title("validation loss after each of an epoch's last steps")
    moved.set_title("drift of running means, standard deviations\n(median layer; dashed: the largest)")
    for axes in (losses, accuracies, steps, moved):
        axes.title.set_fontsize(10)
        axes.set_xlabel("epoch" if axes in (losses, accuracies) else "epoch (its last steps only)")
        plain_axes(axes, epochs=True)
    dotted = Line2D([], [], color="0.3", ls=":", lw=2, label=RESTORED)
    solid = [line for line in losses.lines if line.get_linestyle() == "-"]
    figure.legend(handles=[*solid, dotted], loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    write_figure(figure, path)


def _line(axes: Axes, evaluations: Sequence[Evaluation], key: str, **style: Any) -> None:
    scale = 100 if "accuracy" in key else 1
    axes.plot([one.epoch for one in evaluations], [scale * getattr(one, key) for one in evaluations], **style)


def _by_step(axes: Axes, evaluations: Sequence[Evaluation], key: str, **style: Any) -> None:
    """Draw one line with a gap between epochs. The steps of an epoch lie within half a unit around its number."""
    x, y = [], []
    for epoch in sorted({evaluation.epoch for evaluation in evaluations} - {0}):
        values = [getattr(evaluation, key) for evaluation in evaluations if evaluation.epoch == epoch]
        x += [*(epoch + np.linspace(-0.45, 0.45, len(values))), epoch + 0.5]
        y += [*values, np.nan]
    axes.plot(x, y, **style)
