"""The scores of predicted probabilities: accuracy, confusion matrix and calibration, as tables and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fastcifar.show.columns import Column, FirstThatFits, Fitted
from fastcifar.show.figures import blank, colour, plain_axes, write_figure
from fastcifar.show.text import printable

BINS = 15  # bins of confidence, as in Guo et al. (below)
LEAST = float(np.finfo(np.float32).tiny)  # a smaller probability counts as this one, so that its logarithm is finite
READABLE = 20  # the largest number of classes whose confusion matrix is shown with numbers


@dataclass(frozen=True)
class Bin:
    """A bin of images whose confidence (their largest probability) is in (low, high].

    confidence and accuracy are means over its images, 0 where it has none.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Classification:
    """The scores of probabilities on images with known labels."""

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    """The number of images by (true class, predicted class), (classes, classes)."""
    nll: float
    """The mean negative log-likelihood of the true class, in nats."""
    bins: tuple[Bin, ...]
    """BINS bins of equal width."""

    @classmethod
    def of(
        cls, probabilities: NDArray[np.float32], labels: NDArray[np.integer], classes: Sequence[str]
    ) -> "Classification":
        """Score probabilities.

        probabilities: (N, classes) float32, N >= 1, with rows that add up to 1. labels: (N,) in [0, classes).
        """
        predicted = probabilities.argmax(1)
        confusion = confusion_of(labels.astype(np.int64), predicted, len(classes))
        likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        return cls(
            tuple(classes),
            confusion,
            float(-np.log(np.maximum(likelihood, LEAST)).mean()),
            _bins(probabilities.max(1).astype(np.float64), predicted == labels),
        )

    @property
    def images(self) -> int:
        """The number of images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of correct predictions, in [0, 1]."""
        return float(self.confusion.trace() / self.images)

    @property
    def ece(self) -> float:
        """The expected calibration error, in [0, 1]: the mean over images of |accuracy - confidence| of their bin.

        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
        """
        return sum(b.images * abs(b.accuracy - b.confidence) for b in self.bins) / self.images

    def plain(self) -> dict[str, Any]:
        """Return the scores as values that JSON can hold."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "nll": self.nll,
            "ece": self.ece,
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "bins": [vars(b) for b in self.bins],
        }


def confusion_of(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the number of images by (true, predicted), (classes, classes) int64. labels, predicted: (N,) int64."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _bins(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    place = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, BINS - 1)  # float32 may add up to above 1
    bins = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = place == number
        means = (confidence[inside].mean(), right[inside].mean()) if inside.any() else (0.0, 0.0)
        bins.append(Bin(float(low), float(high), int(inside.sum()), *map(float, means)))
    return tuple(bins)


def score_tables(result: Classification) -> list[Fitted | FirstThatFits]:
    """Return a table of the scores, and a table of the confusion matrix: rows are true classes, columns predicted ones.

    The second table has the most frequent confusions instead for more than READABLE classes, or on a narrow terminal.
    """
    figures = [
        Column("images", [f"{result.images:,}"]),
        Column("accuracy, %", [f"{100 * result.accuracy:.2f}"]),
        Column("negative log-likelihood", [f"{result.nll:.4f}"]),
        Column("expected calibration error, %", [f"{100 * result.ece:.2f}"]),
    ]
    matrices = []
    if len(result.classes) <= READABLE:
        numbered = [f"{number} {name}" for number, name in enumerate(result.classes)]
        matrices = [
            _matrix(result, result.classes, result.classes),
            _matrix(result, numbered, [str(number) for number in range(len(numbered))]),
        ]
    return [Fitted(figures), FirstThatFits([*matrices, _mistakes(result)])]


def _matrix(result: Classification, rows: Sequence[str], columns: Sequence[str]) -> Fitted:
    counts = result.confusion
    right = [f"{100 * row[n] / row.sum():.1f}" if row.any() else "none" for n, row in enumerate(counts)]
    return Fitted(
        [
            Column("true class", rows, number=False),
            *(Column(name, [f"{count:,}" for count in counts[:, n]]) for n, name in enumerate(columns)),
            Column("right, %", right),
        ],
        "Confusion: a row for each true class, a column for each predicted one",
    )


def _mistakes(result: Classification) -> Fitted:
    wrong = result.confusion - np.diag(result.confusion.diagonal())
    most = np.argsort(-wrong, axis=None, kind="stable")[:READABLE]
    places = [divmod(int(place), len(result.classes)) for place in most]
    shown = [place for place in places if wrong[place]]
    return Fitted(
        [
            Column("images", [f"{wrong[place]:,}" for place in shown]),
            Column("true class", [result.classes[true] for true, _ in shown], number=False),
            Column("predicted class", [result.classes[predicted] for _, predicted in shown], number=False),
        ],
        "The most frequent confusions",
    )


def draw_scores(result: Classification, path: Path, title: str) -> None:
    """Write a PNG of the confusion matrix and the reliability diagram (Guo et al., figure 1)."""
    figure = blank(11, 5)
    figure.suptitle(title, fontsize=10)
    parts = [["matrix", "reliability"], ["matrix", "images"]]
    axes: dict[str, Axes] = figure.subplot_mosaic(parts, height_ratios=(4, 1))
    _draw_matrix(axes["matrix"], result)
    _draw_reliability(axes["reliability"], axes["images"], result)
    write_figure(figure, path)


def _draw_matrix(axes: Axes, result: Classification) -> None:
    totals = result.confusion.sum(1, keepdims=True)
    shares = result.confusion / np.maximum(totals, 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(f"accuracy {100 * result.accuracy:.2f} %", fontsize=10)
    axes.set(xlabel="predicted", ylabel="true")
    if len(result.classes) > READABLE:
        return
    places = range(len(result.classes))
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    if max(map(len, result.classes)) < 4:
        turned = {}
    names = list(map(printable, result.classes))
    axes.set_xticks(places, names, fontsize=8, **turned)
    axes.set_yticks(places, names, fontsize=8)
    for (true, predicted), count in np.ndenumerate(result.confusion):
        if count:
            ink = "white" if shares[true, predicted] > 0.5 else "black"
            axes.text(predicted, true, f"{count}", ha="center", va="center", color=ink, fontsize=7)


def _draw_reliability(axes: Axes, below: Axes, result: Classification) -> None:
    shown = [b for b in result.bins if b.images]
    places, width = [(b.low + b.high) / 2 for b in shown], 1 / BINS
    sure, right = [b.confidence for b in shown], [b.accuracy for b in shown]
    axes.bar(places, right, width, color=colour(5), edgecolor="white", label="accuracy")
    axes.plot([0, 1], [0, 1], color="0.4", ls="--", lw=1, label="calibrated")
    axes.vlines(sure, sure, right, color=colour(1), lw=2, label="from confidence to accuracy")
    axes.set(ylim=(0, 1), ylabel="accuracy")
    axes.set_title(
        f"expected calibration error {100 * result.ece:.2f} %, negative log-likelihood {result.nll:.4f}", fontsize=10
    )
    axes.tick_params(labelbottom=False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    below.bar(places, [100 * b.images / result.images for b in shown], width, color="0.6", edgecolor="white")
    below.set(xlabel="confidence", ylabel="images, %")
    for each in (axes, below):
        each.set_xlim(0, 1)
        plain_axes(each, lines=False)
