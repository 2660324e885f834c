"""Only what the chosen suspects need is measured, and suspects share it."""

import pytest
from support.diagnosis import ARMS, EVAL, FAST, SEEDS, SLOW, experiment

from fastcifar.diagnose.batchnorm import diagnose
from fastcifar.diagnose.suspects import TITLES
from fastcifar.diagnose.verdict import NOT_RUN
from fastcifar.diagnose.whole import WHOLE


@pytest.mark.parametrize(
    ("suspects", "arms", "seconds"),
    [
        (["drift"], [FAST, SLOW, EVAL], ["heads"]),
        (["statistics"], [FAST, SLOW, EVAL], ["heads"]),
        (["weights"], [EVAL, WHOLE], ["heads", "all weights"]),
        (["split"], [], ["seeds"]),
    ],
)
def test_a_suspect_alone_is_measured_as_among_all(made, small, digits, suspects, arms, seconds):
    alone = diagnose(experiment(small), ARMS, suspects, digits, 40, SEEDS)
    assert [arm.arm for arm in alone.findings] == arms
    assert list(alone.seconds) == seconds
    assert [one.suspect for one in alone.judgements] == list(TITLES)
    for mine, among in zip(alone.judgements, made.judgements, strict=True):
        assert mine == among or (mine.verdict, mine.suspect in suspects) == (NOT_RUN, False)


def test_all_suspects_share_the_heads(made):
    assert [arm.arm for arm in made.findings] == [FAST, SLOW, EVAL, WHOLE]
    assert list(made.seconds) == ["heads", "seeds", "all weights"]
    assert NOT_RUN not in {one.verdict for one in made.judgements}
