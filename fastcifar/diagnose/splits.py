"""The suspect split: how far apart are the curves of seeds that each draw their own 4:1 split, beside one split?

The backbone is frozen in eval mode, so its features are computed once, and heads of many seeds cost seconds.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from statistics import mean, stdev

from fastcifar.data.dataset import Dataset
from fastcifar.diagnose.experiment import Experiment
from fastcifar.diagnose.sample import Redrawn
from fastcifar.diagnose.suspects import SPLIT
from fastcifar.diagnose.verdict import UNDECIDED, Judgement, Ratio, Spread, judgement, no_conclusion
from fastcifar.errors import UsageError
from fastcifar.runs.spec import RunSpec
from fastcifar.show.progress import track
from fastcifar.training.features import features_of
from fastcifar.training.heads import Heads, can_be_cached

ONE, OWN = "one split", "a split for each seed"


@dataclass(frozen=True)
class SeedLine:
    """The validation of one seed's head after an epoch. split: ONE or OWN. loss: in nats. accuracy: in [0, 1]."""

    split: str
    seed: int
    epoch: int
    loss: float
    accuracy: float


def check_still(spec: RunSpec, suspects: Collection[str]) -> None:
    """Raise UsageError where the splits are measured, but the recipe changes features from epoch to epoch."""
    if SPLIT in suspects and not can_be_cached(replace(spec, tune="head")):
        raise UsageError(
            f"recipe {spec.recipe!r} draws random numbers, and the suspect {SPLIT} needs features that stay the same; "
            f"choose a recipe without, or leave {SPLIT} out of --suspects"
        )


def train_seeds(experiment: Experiment, pool: Dataset, seeds: int) -> list[SeedLine]:
    """Train a head for each of ``seeds`` seeds on the splits ONE and OWN of a pool of images.

    The seeds are those from the experiment's on. A seed's head begins with the same weights on both, and all heads have
    the backbone of the experiment's seed.
    """
    spec = experiment.spec
    learners = [experiment.learner("head")]
    for seed in range(spec.seed + 1, spec.seed + seeds):
        learners.append(replace(experiment, spec=replace(spec, seed=seed)).learner("head"))
        learners[-1].model.backbone = learners[0].model.backbone  # one in memory, not one for each seed
    features = features_of(learners[0], pool, experiment.say)
    work = [(ONE, learners, pool)]
    work += [(OWN, [learner], Redrawn(pool, learner.spec.seed)) for learner in learners]
    lines = []
    for name, group, dataset in track(work, f"heads of {seeds} seeds"):
        heads = Heads(group, features, dataset)
        for epoch in range(1, spec.epochs + 1):
            for learner, line in zip(group, heads.epoch(epoch, range(len(group))), strict=True):
                lines.append(SeedLine(name, learner.spec.seed, epoch, line["val_loss"], line["val_accuracy"]))
    return lines


def band(lines: Sequence[SeedLine], split: str, key: str) -> list[tuple[float, float]]:
    """Return the mean and the standard deviation (n - 1) over the seeds after each epoch. key: loss or accuracy."""
    of_split = [line for line in lines if line.split == split]
    by_epoch = [
        [getattr(line, key) for line in of_split if line.epoch == n] for n in {line.epoch: 0 for line in of_split}
    ]
    return [(mean(values), stdev(values)) for values in by_epoch]


def judge(lines: Sequence[SeedLine]) -> Judgement:
    """Return the verdict on the spread of the validation loss over seeds after the last epoch, by `Ratio`."""
    if lost := {line.split for line in lines if not isfinite(line.loss)}:
        return no_conclusion(SPLIT, sorted(lost))
    seeds = len({line.seed for line in lines})
    spreads = []
    for split in (OWN, ONE):
        centre, deviation = band(lines, split, "loss")[-1]
        spreads.append(Spread(deviation, seeds - 1, centre))
    own, one = (100 * band(lines, split, "accuracy")[-1][1] for split in (OWN, ONE))
    ratio = Ratio(*spreads)
    facts = (
        f"the validation loss of {seeds} seeds has the standard deviation {spreads[0].text} with {OWN} and "
        f"{spreads[1].text} with {ONE}, {ratio.text} times as much, and the accuracy {own:.2f} and {one:.2f} points"
    )
    why = ratio.why + (", and more --heads would" if ratio.verdict == UNDECIDED else "")
    numbers = ratio.numbers() | {"seeds": seeds, "accuracy_deviation": own / 100, "usual_accuracy_deviation": one / 100}
    return judgement(SPLIT, ratio.verdict, facts, why, numbers)
