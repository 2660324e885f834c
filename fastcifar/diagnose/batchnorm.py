"""The whole diagnosis: measure the chosen suspects, sharing the work that several of them need, and judge each."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from fastcifar.data.dataset import Dataset
from fastcifar.diagnose import drift, splits, statistics, whole
from fastcifar.diagnose.arms import Arm, Evaluation, Trained, train_heads
from fastcifar.diagnose.experiment import Experiment
from fastcifar.diagnose.findings import ArmFinding, findings
from fastcifar.diagnose.sample import pool_of
from fastcifar.diagnose.splits import SeedLine
from fastcifar.diagnose.suspects import DRIFT, SPLIT, STATISTICS, TITLES, WEIGHTS
from fastcifar.diagnose.verdict import Judgement, not_run


@dataclass
class Diagnosis:
    """The measurements and the verdicts. A part that no chosen suspect needs is empty."""

    evaluations: list[Evaluation] = field(default_factory=list)
    findings: list[ArmFinding] = field(default_factory=list)
    seeds: list[SeedLine] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    """One for each suspect, in their order, also for those that were not run."""
    seconds: dict[str, float] = field(default_factory=dict)
    """The seconds of each measurement."""


def diagnose(
    experiment: Experiment,
    arms: Sequence[Arm],
    suspects: Collection[str],
    whole_dataset: Dataset,
    images: int | None,
    seeds: int,
) -> Diagnosis:
    """Measure and judge.

    arms: those of `arms.arms_of`; the ones in training mode are left out where neither the drift nor the statistics
    are suspects. whole_dataset, images: the arguments of `sample.pool_of`, for the splits of the seeds. seeds: their
    number.
    """
    made, trained = Diagnosis(), []
    needed = arms if {DRIFT, STATISTICS} & set(suspects) else [arm for arm in arms if arm.momentum is None]
    began = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began
        made.seconds[name], began = time.perf_counter() - began, time.perf_counter()

    if {DRIFT, STATISTICS, WEIGHTS} & set(suspects):
        trained = train_heads(experiment, needed)
        made.evaluations = [evaluation for arm in trained for evaluation in arm.evaluations]
        lap("heads")
    if SPLIT in suspects:
        made.seeds = splits.train_seeds(experiment, pool_of(whole_dataset, images, experiment.spec.seed), seeds)
        lap("seeds")
    if WEIGHTS in suspects:
        made.evaluations += whole.train_all(experiment)
        lap("all weights")
    made.findings = findings(made.evaluations)
    made.judgements = [_judged(made, trained, name) if name in suspects else not_run(name) for name in TITLES]
    return made


def _judged(made: Diagnosis, trained: Sequence[Trained], suspect: str) -> Judgement:
    if suspect == SPLIT:
        return splits.judge(made.seeds)
    heads = made.findings[: len(trained)]
    *moving, steady = heads
    if suspect == WEIGHTS:
        return whole.judge(made.findings[-1], steady)
    if suspect == STATISTICS:
        return statistics.judge([statistics.cost(arm, trained[-1]) for arm in trained[:-1]])
    worst = max(moving, key=lambda arm: arm.jump)
    return drift.judge(worst, [arm for arm in moving if arm is not worst], steady)
