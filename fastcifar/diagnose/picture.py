"""A picture of a diagnosis: a panel for each suspect, with the verdict in its title."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fastcifar.diagnose.arms import EVAL_MODE, Evaluation
from fastcifar.diagnose.batchnorm import Diagnosis
from fastcifar.diagnose.findings import after_first_epoch
from fastcifar.diagnose.splits import ONE, OWN, band
from fastcifar.diagnose.suspects import TITLES
from fastcifar.diagnose.verdict import NOT_RUN
from fastcifar.diagnose.whole import WHOLE
from fastcifar.show.figures import axes_grid, colour, plain_axes, write_figure

RESTORED, FINAL = "the same heads, initial statistics put back", "the final head, statistics of that time"
STYLES = (("--", FINAL), (":", RESTORED))


def draw_diagnosis(made: Diagnosis, title: str, path: Path) -> None:
    """Write a PNG with a panel for each suspect, in their order. Each arm has its own colour.

    Raises as `show.figures.write_figure` does.
    """
    figure, panels = axes_grid(11, 8, 2, 2)
    for judged, axes, draw in zip(made.judgements, panels, (_drift, _statistics, _split, _weights), strict=True):
        axes.set_title(f"{TITLES[judged.suspect]}: {judged.verdict}", fontsize=10)
        if judged.verdict == NOT_RUN:
            axes.set_axis_off()
            continue
        draw(axes, made)
        plain_axes(axes, epochs=True)
        styles = [Line2D([], [], color="0.3", ls=ls, label=label) for ls, label in STYLES] if draw is _drift else []
        arms = [line for line in axes.lines if line.get_linestyle() == "-"]
        axes.legend(handles=[*arms, *styles], fontsize=7, framealpha=0.7, edgecolor="none")
    figure.suptitle(title, fontsize=10)
    write_figure(figure, path)


def _drift(axes: Axes, made: Diagnosis) -> None:
    """Draw the losses after the first epoch: as they are, of the final head, and with the initial statistics."""
    arms = _by_arm(made)
    for place, (name, found) in enumerate(arms.items()):
        late, ink = after_first_epoch(found), colour(place)
        _line(axes, late, "loss", color=ink, label=name)
        if name != EVAL_MODE:
            _line(axes, late, "final_loss", color=ink, ls="--", label=f"{name}: {FINAL}")
            # shifted dashes, since arms with equal heads have equal lines
            dots = (3 * place, (1.5, 3 * len(arms) - 1.5))
            _line(axes, late, "restored_loss", color=ink, ls=dots, lw=2, label=f"{name}: {RESTORED}")
    axes.set(xlabel="epoch", ylabel="validation loss")


def _statistics(axes: Axes, made: Diagnosis) -> None:
    """Draw the accuracies."""
    for place, (name, found) in enumerate(_by_arm(made).items()):
        _line(axes, found, "accuracy", 100, color=colour(place), marker=".", label=name)
    axes.set(xlabel="epoch", ylabel="validation accuracy, %")


def _split(axes: Axes, made: Diagnosis) -> None:
    """Draw the mean loss over the seeds, with a band of one standard deviation on each side."""
    for place, split in enumerate((OWN, ONE)):
        mean, deviation = np.array(band(made.seeds, split, "loss")).T
        epochs = np.arange(1, len(mean) + 1)
        axes.plot(epochs, mean, color=colour(place), label=split)
        axes.fill_between(epochs, mean - deviation, mean + deviation, color=colour(place), alpha=0.25, lw=0)
    axes.set(xlabel="epoch", ylabel="validation loss ± standard deviation")


def _weights(axes: Axes, made: Diagnosis) -> None:
    """Draw the losses of all weights and of the head in eval mode."""
    for place, name in enumerate((WHOLE, EVAL_MODE)):
        label = name if name == WHOLE else f"the head alone, {name}"
        found = [one for one in made.evaluations if one.arm == name and one.epoch]
        _line(axes, found, "loss", color=colour(place), marker=".", label=label)
    axes.set(xlabel="epoch", ylabel="validation loss")


def _by_arm(made: Diagnosis) -> dict[str, list[Evaluation]]:
    """Return the evaluations of each arm that trains a head."""
    names = [arm.arm for arm in made.findings if arm.arm != WHOLE]
    return {name: [one for one in made.evaluations if one.arm == name] for name in names}


def _line(axes: Axes, found: Sequence[Evaluation], key: str, scale: float = 1, **style: Any) -> None:
    """Draw a line over the epochs. The last evaluation of an epoch is at its number."""
    last = max(one.step for one in found)
    x = [one.epoch - 1 + one.step / last if one.epoch else 0 for one in found]
    axes.plot(x, [scale * getattr(one, key) for one in found], **style)
