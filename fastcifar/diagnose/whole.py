"""The suspect weights: how much does the validation loss jump when all weights are trained, beside the head's?"""

from collections.abc import Iterator
from math import isfinite

from fastcifar.diagnose.arms import Evaluation
from fastcifar.diagnose.experiment import Experiment
from fastcifar.diagnose.findings import ArmFinding
from fastcifar.diagnose.suspects import WEIGHTS
from fastcifar.diagnose.verdict import UNDECIDED, Judgement, Ratio, judgement, no_conclusion, short
from fastcifar.show.progress import track
from fastcifar.training.batches import open_pipelines
from fastcifar.training.learner import evaluate

WHOLE = "all weights"
"""The name of the arm that trains all weights, in tables and pictures."""
FORWARD_AND_BACK = 3
"""Forward passes that a step of all weights costs, for the progress bar."""


def train_all(experiment: Experiment) -> list[Evaluation]:
    """Train all weights with the batches and the learning rate of the heads, and evaluate after the same steps."""
    found: list[Evaluation] = []
    trained, validated = (len(experiment.dataset.ids(split)) for split in ("training", "validation"))
    images = experiment.spec.epochs * (FORWARD_AND_BACK * trained + len(experiment.evaluated) * validated)
    for _ in track(_work(experiment, found), WHOLE, images, size=int):
        pass
    return found


def _work(experiment: Experiment, found: list[Evaluation]) -> Iterator[int]:
    """Train, and append the evaluations to ``found``. Yield the number of images of each piece of work."""
    learner = experiment.learner("full")
    training, validation = open_pipelines(experiment.spec, experiment.dataset, experiment.device)
    with training, validation:
        for epoch in range(1, experiment.spec.epochs + 1):
            learner.begin(experiment.steps)
            for step, batch in enumerate(training.epoch(epoch), 1):
                learner.step(batch)
                yield FORWARD_AND_BACK * len(batch.ids)
                if step in experiment.evaluated:
                    found.append(Evaluation(WHOLE, epoch, step, *evaluate(learner, validation.epoch(0))))
                    yield len(experiment.dataset.ids("validation"))
            learner.epoch = epoch


def judge(whole: ArmFinding, head: ArmFinding) -> Judgement:
    """Return the verdict on the jump, by `Ratio`. head: the arm in eval mode."""
    if lost := [arm.arm for arm in (whole, head) if not isfinite(arm.jump + arm.loss)]:
        return no_conclusion(WEIGHTS, lost)
    ratio = Ratio(whole.spread, head.spread)
    facts = (
        f"the validation loss jumps by {ratio.spread.text} ({short(100 * ratio.spread.share)} % of it) and that of the "
        f"head alone by {ratio.usual.text}, {ratio.text} times as much, at accuracies of {100 * whole.accuracy:.2f} "
        f"and {100 * head.accuracy:.2f} %"
    )
    why = ratio.why + (", and more --epochs would" if ratio.verdict == UNDECIDED else "")
    numbers = ratio.numbers() | {"accuracy": whole.accuracy, "usual_accuracy": head.accuracy}
    return judgement(WEIGHTS, ratio.verdict, facts, why, numbers)
