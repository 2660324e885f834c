"""A contestant in a process of its own, so that the tuning of one contestant cannot affect another."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fastcifar.system.measure import Timing, rotated


class Apart:
    """A contestant in a fresh process. ``Apart(factory, ...)`` builds ``factory(...)`` there; ``.turn()`` times it."""

    def __init__(self, factory: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, factory, arguments), daemon=False)
        self._process.start()
        there.close()
        self._answer()

    def turn(self) -> float:
        """Run two epochs and return the seconds of the second. The first one brings back memory of the waiting process
        that the system may have reclaimed. Raises RuntimeError with the error of the process.
        """
        self._here.send(None)
        return float(self._answer())

    def close(self) -> None:
        """End the process and wait for it."""
        self._here.close()
        self._process.join()

    def _answer(self) -> Any:
        try:
            fine, answer = self._here.recv()
        except EOFError as error:
            raise RuntimeError("the contestant's process has ended") from error
        if not fine:
            raise RuntimeError(answer)
        return answer


def _serve(there: Any, factory: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        contestant = factory(*arguments)
        there.send((True, None))
        while True:
            there.recv()
            contestant.epoch()
            started = time.perf_counter()
            contestant.epoch()
            there.send((True, time.perf_counter() - started))
    except EOFError:  # the parent has closed the connection
        pass
    except Exception as error:  # the parent raises it again
        there.send((False, f"{type(error).__name__}: {error}"))


def in_turns(contestants: Mapping[str, Apart], repeats: int) -> dict[str, Timing]:
    """Time the contestants' epochs. The order rotates by one in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for round_ in range(repeats):
        for name in rotated(names, round_):
            seconds[name].append(contestants[name].turn())
    return {name: Timing(tuple(taken), ()) for name, taken in seconds.items()}
