"""The sentence that a benchmark ends with, and the sentences on what limits the numbers."""

from support.throughput import OUT, contestant, made

from fastcifar.throughput.conclusion import caveats, conclusion
from fastcifar.throughput.entrant import Entrant, Rules


def test_the_fastest_and_the_next():
    rows = [made("ffcv", [100.0, 110]), made("resident", [240.0, 264]), made("dali", [1.0]) | OUT]
    erasing = [row | {"recipe": "erasing"} for row in rows]
    assert conclusion(erasing) == "resident is 2.4 times as fast as the next, ffcv, on erasing"
    more = [row | {"recipe": "basic", "batch_size": 64} for row in (made("ffcv", [100.0]), made("resident", [150.0]))]
    assert conclusion([*erasing, *more]) == (
        "resident is 2.4 times as fast as the next, ffcv, on erasing (batch 512) and 1.5 times on basic (batch 64)"
    )


def test_within_the_spread_nobody_is_faster():
    rows = [made("resident", [100.0, 120]), made("ffcv", [90.0, 105]), made("dali", [10.0])]
    assert conclusion(rows) == "ffcv and resident are the same within their spread on none"


def test_what_is_not_verified_is_marked():
    rows = [made("resident", [100.0]), made("ffcv:stock", [200.0], verified=False, reason="its own draws")]
    assert conclusion(rows) == "ffcv:stock (not verified) is 2 times as fast as the next, resident, on none"
    assert "What is not verified may do other work than the rest: ffcv:stock." in caveats(rows)


def test_one_or_none():
    one, none = made("resident", [1234.0], recipe="basic"), made("dali", [1.0]) | OUT
    assert conclusion([one]) == "resident alone could be timed: 1,234 images/s on basic"
    assert conclusion([none]) == "no contestant could be timed on none"
    assert conclusion([none, one]) == (
        "no contestant could be timed on none; resident alone could be timed: 1,234 images/s on basic"
    )


def test_replayed_batches_are_no_contestant():
    rows = [made("replay", [999.0]), made("resident", [300.0]), made("dali", [100.0])]
    rows = [row | {"model": "cnn", "recipe": "basic"} for row in rows]
    assert conclusion(rows) == "resident is 3 times as fast as the next, dali, in training cnn on basic"


def test_caveats():
    quiet = made("resident", [1.0] * 5)
    assert caveats([quiet]) == []
    assert caveats([quiet | {"load": None}, {key: value for key, value in quiet.items() if key != "load"}]) == []
    busy = quiet | {"load": {"busy_cores": 1.26, "load_average": 3.0}}
    assert caveats([quiet, busy]) == [
        "Other programs used up to 1.3 cores (load average 3.0) while a contestant had 2: compare ratios, not "
        "absolute values, and repeat it on a quiet machine."
    ]
    assert caveats([made("resident", [1.0] * 2)]) == [
        "The fewest turns of a contestant are 2; a claim needs at least 5."
    ]


def test_what_a_contestant_lacked_is_said_once():
    lacking = made("torchvision", [1.0] * 5) | {"hindered": "no worker has room; docker run --shm-size=1g"}
    assert caveats([lacking, lacking, made("resident", [1.0] * 5)]) == [
        "torchvision: no worker has room; docker run --shm-size=1g."
    ]


def test_the_row_of_a_contestant_says_what_it_lacked(synthetic):
    entrant = Entrant(contestant(synthetic, "torchvision"), Rules(environment={}))
    assert "hindered" not in entrant.row()
    entrant._opening = {"hindered": "no worker has room", "environment": {}}
    assert entrant.row()["hindered"] == "no worker has room"
