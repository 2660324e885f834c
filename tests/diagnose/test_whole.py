"""All weights trained: the evaluations, and the verdict on their jump."""

from dataclasses import replace
from math import nan

import pytest
from support.diagnosis import EPOCHS, FINDING, STEADY, experiment, of

from fastcifar.diagnose.verdict import ACQUITTED, GUILTY, UNDECIDED
from fastcifar.diagnose.whole import WHOLE, judge
from fastcifar.runs.directory import RunDirectory
from fastcifar.training.loop import train


def test_the_losses_are_those_of_a_run(made, small, tmp_path):
    spec = replace(experiment(small).spec, tune="full")
    train(spec, small, tmp_path, experiment(small).device)
    lines = RunDirectory.of(spec, tmp_path).metrics()
    ends = [one.loss for one in of(made.evaluations, WHOLE) if one.step == 5]
    assert ends == pytest.approx([line["val_loss"] for line in lines], rel=1e-4)
    assert [(one.epoch, one.step) for one in of(made.evaluations, WHOLE)] == [
        (epoch, step) for epoch in range(1, EPOCHS + 1) for step in (3, 5)
    ]


@pytest.mark.parametrize(
    ("jump", "evaluations", "verdict", "why"),
    [
        (0.3, 40, GUILTY, "that is above 2 times, and above 1 % of the loss."),
        (0.02, 40, ACQUITTED, "that is below 2 times."),
        (0.004, 40, ACQUITTED, "less than 1 % of the loss hardly shows."),
        (0.1, 4, UNDECIDED, "and more --epochs would."),
        (nan, 40, UNDECIDED, "validation losses were not finite (all weights)."),
    ],
)
def test_every_verdict(jump, evaluations, verdict, why):
    whole = replace(FINDING, arm=WHOLE, jump=jump, final_range=nan, restored_jump=nan, evaluations=evaluations)
    found = judge(whole, replace(STEADY, evaluations=evaluations))
    assert found.verdict == verdict
    assert found.sentence.endswith(why)


def test_the_sentence_has_the_numbers():
    assert judge(replace(FINDING, arm=WHOLE), STEADY).sentence == (
        "All weights trained: guilty, as the validation loss jumps by 0.3 [0.24, 0.41] (30 % of it) and that of the "
        "head alone by 0.02 [0.016, 0.028], 15 [10, 22] times as much, at accuracies of 50.00 and 50.00 %; that is "
        "above 2 times, and above 1 % of the loss."
    )
