"""A heat: contestants with the same recipe, batch size and device take turns. Each round rotates the order by one."""

from collections.abc import Callable, Sequence
from typing import Any

from fastcifar.system.load import available_bytes
from fastcifar.system.measure import rotated
from fastcifar.throughput.contestant import Contestant
from fastcifar.throughput.entrant import Entrant, Rules, replay_of

IDLE_SHARE = 1 / 3  # share of the memory available at the start that waiting contestants may hold


def hold(
    contestants: Sequence[Contestant], rules: Rules, watch: Callable[[list[dict[str, Any]]], None] = lambda rows: None
) -> list[dict[str, Any]]:
    """Time the contestants and return their rows in the same order. The row of a failed contestant has the reason.

    Processes live from before the first round until after the last; waiting processes are blocked. Where memory is
    short, a contestant's process ends after its turn, and is started and warmed up again for its next turn.
    watch: called with the rows so far after every turn.
    """
    entrants = [Entrant(contestant, rules) for contestant in contestants]
    needed = (1 - IDLE_SHARE) * (available_bytes() or 0)

    def rows() -> list[dict[str, Any]]:
        return [entrant.row(replay_of(entrants)) for entrant in entrants]

    def turn(entrant: Entrant, take: Callable[[], None]) -> None:
        take()
        if (available_bytes() or 0) < needed:
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
