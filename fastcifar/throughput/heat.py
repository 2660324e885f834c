"""A heat: contestants of the same recipe, batch size and device take turns, the order rotated by one each round."""

from collections.abc import Callable, Sequence
from typing import Any

from fastcifar.system.measure import rotated
from fastcifar.throughput import resources
from fastcifar.throughput.contestant import Contestant
from fastcifar.throughput.entrant import Entrant, Rules, replay_of

IDLE_SHARE = 1 / 3  # of the memory there is at the start, for those who wait; the rest is for whoever is active


def hold(
    contestants: Sequence[Contestant], rules: Rules, watch: Callable[[list[dict[str, Any]]], None] = lambda rows: None
) -> list[dict[str, Any]]:
    """Time the contestants and return their rows, in their order; whoever fails has a row with the reason.

    All processes live from before the first round until after the last, the idle ones blocked, but for those that the
    memory does not suffice for: they are started anew, and warmed up, for every turn.
    watch: called with the rows so far after every turn.
    """
    entrants = [Entrant(contestant, rules) for contestant in contestants]
    needed = (1 - IDLE_SHARE) * resources.available_bytes()

    def rows() -> list[dict[str, Any]]:
        return [entrant.row(replay_of(entrants)) for entrant in entrants]

    def turn(entrant: Entrant, what: Callable[[], None]) -> None:
        what()
        if resources.available_bytes() < needed:
            entrant.leave()
        watch(rows())

    try:
        for entrant in entrants:
            turn(entrant, entrant.enter)
        for round_ in range(rules.repeats):
            for entrant in rotated(entrants, round_):
                turn(entrant, entrant.race)
        return rows()
    finally:
        for entrant in entrants:
            entrant.leave()
