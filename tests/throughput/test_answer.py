"""The sentence on whether one's own loader is the bottleneck."""

from support.throughput import OUT, made

from fastcifar.throughput.answer import answers, failures

MINE = "my.py:make"


def heat(mine, ready=(1000.0, 1010.0), **other):
    """Return the rows of a heat in training. mine, ready: images/s of the turns."""
    fed = {"model": "resnet18", "stall": 1 - mine[0] / ready[0]} | other
    rows = [made("replay", list(ready), model="resnet18"), made("resident", [990.0], model="resnet18", stall=0.01)]
    return [*rows, made(MINE, list(mine), **fed)]


def test_in_training():
    (sentence,) = answers(heat([400.0]), [MINE])
    assert sentence == (
        "resnet18, none, batch 512, float32, cpu: my.py:make is the bottleneck: training waits for it 60.0% of the "
        "time; resnet18 trains on 400 images/s, with resident on 990, and with ready batches on 1,005"
    )
    (sentence,) = answers(heat([980.0]), [MINE])
    assert "my.py:make is not the bottleneck: training waits for it 2.0% of the time" in sentence
    (sentence,) = answers(heat([1100.0]), [MINE])
    assert "training waits for it 0.0% of the time" in sentence
    (sentence,) = answers(heat([900.0, 1005.0]), [MINE])
    assert "whether my.py:make is the bottleneck is not clear" in sentence
    assert "repeat it with more --repeats" in sentence


def test_without_ready_batches_it_is_not_known():
    rows = heat([400.0], stall=None)
    rows[0] |= OUT | {"images_per_s": None}
    (sentence,) = answers(rows, [MINE])
    assert "is not known, as ready batches could not be timed; resnet18 trains on 400 images/s" in sentence


def test_alone():
    rows = [made("resident", [8000.0]), made(MINE, [2000.0])]
    (sentence,) = answers(rows, [MINE])
    assert sentence == (
        "none, batch 512, float32, cpu: my.py:make makes 2,000 images/s, 1/4 of resident's 8,000; whether it is the "
        "bottleneck depends on the network: add --models cnn or --models resnet18"
    )
    assert "16,000 images/s, 2 times resident's 8,000" in answers([rows[0], made(MINE, [16000.0])], [MINE])[0]
    assert "makes 2,000 images/s; whether" in answers(rows[1:], [MINE])[0]


def test_heats_are_kept_apart_and_failures_are_named():
    rows = [made("resident", [8000.0], recipe="basic"), made(MINE, [2000.0]), made(MINE, [1.0], recipe="basic") | OUT]
    assert "resident" not in answers(rows, [MINE])[0]
    assert len(answers(rows, [MINE])) == 1
    assert failures(rows, [MINE]) == ["basic, batch 512, float32, cpu: my.py:make was not timed: did not open in 300 s"]
    assert answers(rows, []) == failures(rows, []) == []
